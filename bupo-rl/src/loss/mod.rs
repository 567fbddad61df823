//! The policy-gradient loss: advantages, the clipped surrogate with its variants, corrections for what engines sampled, and presets;
//! the loss of a critic.

mod advantage;
mod clipped;
mod correction;
mod entropy_target;
mod gae;
mod presets;
mod reward_kl;
mod surrogate;
mod token_choice;

pub use advantage::{Advantage, RewardedLength, ScaleRewards, group_advantages};
pub use clipped::{Aggregation, BatchSize, KlEstimator, Objective, Ratio, ResponseLoss, ResponseValues};
pub use correction::{Correction, CorrectionMode, RatioStats, TokenWeights};
pub use entropy_target::EntropyTarget;
pub use gae::{CriticTargets, PlacedTargets, ValueLoss, ValueStats, whiten};
pub use presets::LossPreset;
pub use reward_kl::RewardKl;
pub use surrogate::{SapoTemperatures, Surrogate};
pub use token_choice::{ChosenTokens, Covariance, CovarianceMode, TokenValues};
