//! Updates: one mini-batch, AdamW, the learning-rate schedule.

mod accumulate;
mod adamw;
mod learning_rate;
mod mini_batch;
mod moments;
mod policy_stats;
mod weight_storage;

pub(crate) use accumulate::accumulate;
pub use adamw::{AdamWSettings, DecoderOptimizer};
pub use bupo_core::kernels::MomentDtype;
pub use learning_rate::{Decay, LearningRateSchedule};
pub use mini_batch::{LossSpec, Sample, SamplingLogProbs, TermLogProbs, UpdateStats, update};
pub(crate) use mini_batch::{gradient, update_among};
pub use moments::Moments;
pub(crate) use moments::{HostMoment, MomentOf};
pub(crate) use policy_stats::kl_to_full;
pub use policy_stats::{PolicySpec, response_stats};
pub use weight_storage::WeightStorage;
