//! Reinforcement learning of full and internal policies: GRPO, internal-policy GRPO, and the phase schedule that makes
//! Bottom-up Policy Optimization (arXiv 2512.19673).

mod advantage;
mod batch;
mod bench;
mod benchmark;
mod config;
mod error;
mod evaluate;
mod learning_rate;
mod loss;
mod objective;
mod optimizer;
mod parity;
mod phase_guard;
mod plan;
mod probe;
mod questions;
mod random;
mod recorded;
mod replay;
mod resume;
mod rollout;
mod run_folder;
mod schedule;
mod task;
mod trainer;
mod update;
mod warmup;
mod watch;

pub use advantage::{Advantage, Scored, group_advantages, mean_and_std};
pub use batch::{PolicySpec, response_stats};
pub use bench::{BenchMode, BenchResult, BenchSpec, Floor, Machine, bench};
pub use benchmark::{
    Benchmark, BenchmarkCompletion, BenchmarkResult, COMPLETIONS, EvaluationFolder, grade_again, run_benchmarks,
};
pub use bupo_models::Sequence;
pub use bupo_runs::{Damaged, JsonLines};
pub use config::{
    Algorithm, CheckpointConfig, DataConfig, EvaluationConfig, GuardConfig, ProbeConfig, RolloutConfig, TaskConfig,
    TrainConfig, UpdateConfig,
};
pub use error::RlError;
pub use evaluate::{Completion, Evaluation, Group, ResponseOutcome, Sampler, Sampling, ScoredResponse, pass_at_k};
pub use learning_rate::{Decay, LearningRateSchedule};
pub use loss::LossName;
pub use objective::{Aggregation, BatchSize, KlEstimator, Objective, Ratio, ResponseLoss, ResponseValues};
pub use optimizer::{AdamWSettings, DecoderOptimizer, Moments};
pub use parity::{Computed, Difference};
pub use phase_guard::PhaseGuardMode;
pub use plan::{MemoryPlan, PhasePlan, RunPlan, fit, parameters};
pub use probe::ProbeLine;
pub use questions::{
    Answered, ArithmeticQuestions, ChatChoice, FileQuestions, Overlong, Prepared, PromptRenderer, Question, Questions,
    grade_all, read_questions,
};
pub use recorded::{Recorded, RecordedResponse, read_responses};
pub use replay::{RecordedRollout, read_rollouts, replay};
pub use resume::{MAY_CHANGE, resumed_config};
pub use rollout::{overlong_penalty, teaches};
pub use run_folder::{RunFolder, make_empty_folder};
pub use schedule::{Phase, PhaseConfig, PhaseSite, Schedule};
pub use task::{Arithmetic, Problem, Task};
pub use trainer::{GuardAction, Outcome, Plan, Progress, Start, StepMetrics, Warning, WarningKind, train};
pub use update::{LossSpec, Sample, UpdateStats, update};
pub use warmup::{WarmupConfig, warmup};
