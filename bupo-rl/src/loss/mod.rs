//! The policy-gradient loss: advantages, the clipped surrogate with its variants, corrections for what engines sampled, and presets.

mod advantage;
mod clipped;
mod correction;
mod presets;

pub use advantage::{Advantage, RewardedLength, group_advantages};
pub use clipped::{Aggregation, BatchSize, KlEstimator, Objective, Ratio, ResponseLoss, ResponseValues};
pub use correction::{Correction, CorrectionMode, RatioStats, TokenWeights};
pub use presets::LossPreset;
