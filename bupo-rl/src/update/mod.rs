//! Updates: one mini-batch, AdamW, the learning-rate schedule.

mod adamw;
mod learning_rate;
mod mini_batch;
mod policy_stats;

pub use adamw::{AdamWSettings, DecoderOptimizer, Moments};
pub use learning_rate::{Decay, LearningRateSchedule};
pub use mini_batch::{LossSpec, Sample, SamplingLogProbs, UpdateStats, update};
pub(crate) use mini_batch::{accumulate, update_among};
pub(crate) use policy_stats::kl_to_full;
pub use policy_stats::{PolicySpec, response_stats};
