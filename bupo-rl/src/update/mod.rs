//! Updates: one mini-batch, AdamW, the learning-rate schedule, a critic.

mod accumulate;
mod adamw;
mod critic;
mod learning_rate;
mod mini_batch;
mod moments;
mod policy_stats;
mod sample;
mod weight_storage;

pub(crate) use accumulate::accumulate;
pub use adamw::{AdamWSettings, DecoderOptimizer};
pub use bupo_core::kernels::MomentDtype;
pub use critic::{Critic, CriticStats, ValueHead};
pub use learning_rate::{Decay, LearningRateSchedule};
pub use mini_batch::{LossSpec, UpdateStats, update, update_with_critic};
pub(crate) use mini_batch::{gradient, update_among};
pub use moments::Moments;
pub(crate) use moments::{HostMoment, MomentOf};
pub(crate) use policy_stats::kl_to_full;
pub use policy_stats::{PolicySpec, response_stats};
pub use sample::{Sample, SamplingLogProbs, TermLogProbs};
pub use weight_storage::WeightStorage;
