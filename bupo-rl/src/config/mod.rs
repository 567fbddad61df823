//! Settings of a training run, read from TOML and checked before the run starts.

mod benchmarks;
mod critic;
mod explain;
mod generated_task;
mod keep_rollouts;
mod load;
mod resume;
mod sections;
mod train_config;
mod trained;
mod validate;
mod validate_objective;

pub use benchmarks::BenchmarkConfig;
pub(crate) use benchmarks::BenchmarkSampling;
pub use critic::CriticConfig;
pub use generated_task::{GeneratedTask, TaskConfig};
pub use keep_rollouts::KeepRollouts;
pub(crate) use resume::flatten;
pub use resume::{MAY_CHANGE, resumed_config};
pub use sections::{
    CheckpointConfig, CorrectionConfig, DataConfig, DistributedConfig, EvaluationConfig, GuardConfig, ProbeConfig,
    RewardConfig, RolloutConfig, Shard, TruncatedReward, UpdateConfig,
};
pub use train_config::{Algorithm, TrainConfig};
pub use trained::{LayerPart, TrainSection, TrainedParameters};
