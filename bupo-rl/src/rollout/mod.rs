//! A step's responses: sampling, grading, filtering, reward shaping.

mod metrics;
mod reward_shaping;
mod sample_groups;

pub use metrics::{RolloutMetrics, SourceMetrics};
pub(crate) use reward_shaping::{StepAdvantages, advantages, has_variance, shaped_reward};
pub use reward_shaping::{has_reward_variance, overlong_penalty};
pub(crate) use sample_groups::{Rollout, Samplers, rollout, share, training_sampling};
