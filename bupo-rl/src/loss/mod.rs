//! The policy-gradient loss: advantages, ratio clipping and its variants, and presets of both by name.

mod advantage;
mod clipped;
mod presets;

pub use advantage::{Advantage, RewardedLength, group_advantages};
pub use clipped::{Aggregation, BatchSize, KlEstimator, Objective, Ratio, ResponseLoss, ResponseValues};
pub use presets::LossPreset;
