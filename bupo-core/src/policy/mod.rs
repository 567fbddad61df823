//! Policies of states: log-probs, entropies and their gradients, sampling, and comparison with the full policy.

mod alignment;
mod comparison;
mod device_sample;
mod divergence;
mod internal_policy;
mod log_probs;
mod online_softmax;
mod row_logits;
mod sample;
mod sampled;
mod sampling_params;

pub use alignment::{Alignment, Divergence};
pub use comparison::SiteLogits;
pub use divergence::{FullPolicyDivergence, PolicyComparison};
pub use internal_policy::{InternalPolicy, logits_at_once};
pub use log_probs::{PolicyForward, PolicyGradient, TokenDerivatives, TokenStats, logits_saved};
pub use sampled::{Sampled, TokenProb, TokenRank};
pub use sampling_params::SamplingParams;
