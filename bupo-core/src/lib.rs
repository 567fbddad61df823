//! The residual stream of a decoder and its internal policies.
//!
//! A decoder layer adds two contributions (attention, feed-forward) to a residual stream, and any state of that stream,
//! multiplied by the unembedding matrix, is a policy (arXiv 2512.19673, section 3). This crate is generic over Burn
//! backends and reads no files:
//!
//! - [`PolicySite`] and [`Norm`] name a policy;
//! - [`ResidualDecoder`] and [`ResidualStream`] split a decoder into its contributions;
//! - [`InternalPolicy`] computes log-probs, entropies, top tokens, samples and gradients from states, in chunks;
//! - [`PolicyComparison`] compares a policy with the full one; [`cosines`], [`norms`], [`participation_ratios`] and [`linear_cka`] describe
//!   states.

mod cka;
mod error;
pub mod kernels;
pub mod kv_cache;
mod policy;
pub mod profile;
mod site;
mod state_stats;
mod stream;
mod tokens;

pub use cka::{Covariance, CovarianceSum, linear_cka};
pub use error::CoreError;
pub use policy::{
    Alignment, Divergence, FullPolicyDivergence, InternalPolicy, PolicyComparison, PolicyForward, PolicyGradient,
    Sampled, SamplingParams, SiteLogits, TokenDerivatives, TokenProb, TokenRank, TokenStats, logits_at_once,
    logits_saved,
};
pub use site::{Norm, PolicySite};
pub use state_stats::{cosines, norms, participation_ratios};
pub use stream::{AttnContribution, FfnContribution, LayerContributions, ResidualDecoder, ResidualStream};
pub use tokens::token_tensor;
