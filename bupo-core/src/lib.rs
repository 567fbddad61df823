//! The residual stream of a decoder and the policies hidden in it.
//!
//! A decoder layer adds two contributions (attention, feed-forward) to a residual stream, and any state of that
//! stream, multiplied by the unembedding matrix, is a policy (arXiv 2512.19673, section 3). This crate holds the
//! pieces that say so, generic over Burn backends, with no files and no tokenizer:
//!
//! - [`PolicySite`] and [`Norm`] name a policy;
//! - [`ResidualDecoder`] and [`ResidualStream`] split a decoder into its contributions;
//! - [`InternalPolicy`] turns states into log-probs, entropies, top tokens, samples and gradients, by chunks;
//! - [`PolicyComparison`] holds a policy beside the full one, and [`cosines`], [`norms`] and [`participation_ratio`] say how states lie.

mod error;
pub mod kernels;
pub mod kv_cache;
mod policy;
pub mod profile;
mod site;
mod state_stats;
mod stream;
mod tokens;

pub use error::CoreError;
pub use policy::{
    FullPolicyDivergence, InternalPolicy, LOGITS_AT_ONCE, PolicyComparison, PolicyForward, PolicyGradient, Sampled,
    SiteLogits, TokenDerivatives, TokenProb, TokenStats,
};
pub use site::{Norm, PolicySite};
pub use state_stats::{cosines, norms, participation_ratios};
pub use stream::{AttnContribution, FfnContribution, LayerContributions, ResidualDecoder, ResidualStream};
pub use tokens::token_tensor;
