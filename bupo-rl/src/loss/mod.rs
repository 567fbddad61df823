//! The policy-gradient loss: advantages, the clipped surrogate with its variants, and presets.

mod advantage;
mod clipped;
mod presets;

pub use advantage::{Advantage, RewardedLength, group_advantages};
pub use clipped::{Aggregation, BatchSize, KlEstimator, Objective, Ratio, ResponseLoss, ResponseValues};
pub use presets::LossPreset;
