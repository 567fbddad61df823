//! Reinforcement learning of full and internal policies: GRPO, internal-policy GRPO, and the phase schedule that makes
//! Bottom-up Policy Optimization (arXiv 2512.19673).

mod advantage;
mod batch;
mod config;
mod error;
mod evaluate;
mod objective;
mod optimizer;
mod random;
mod replay;
mod run_folder;
mod schedule;
mod task;
mod trainer;
mod update;
mod warmup;

pub use advantage::{group_advantages, mean_and_std};
pub use batch::{PolicySpec, Sequence, response_stats};
pub use config::{Algorithm, EvaluationConfig, RolloutConfig, TaskConfig, TrainConfig, UpdateConfig};
pub use error::RlError;
pub use evaluate::{Completion, Evaluation, Sampling, evaluate, pass_at_k};
pub use objective::{Aggregation, BatchSize, Objective, ResponseLoss};
pub use optimizer::{AdamWSettings, DecoderOptimizer, Gradients};
pub use replay::{RecordedRollout, read_rollouts, replay};
pub use run_folder::{JsonLines, RunFolder, make_empty_folder};
pub use schedule::{Phase, Schedule};
pub use task::{Arithmetic, Problem, Task};
pub use trainer::{Outcome, Plan, Progress, StepMetrics, train};
pub use update::{LossSpec, Sample, UpdateStats, update};
pub use warmup::{WarmupConfig, warmup};
