//! Reinforcement learning of full and internal policies: GRPO, internal-policy GRPO, and Bottom-up Policy Optimization
//! (arXiv 2512.19673), which runs them one after the other as phases.

mod agree;
mod config;
mod data;
mod error;
mod loss;
mod peak_memory;
mod phases;
mod random;
mod rollout;
mod sweep;
mod tools;
mod trainer;
mod update;

pub use bupo_collective::Processes;
pub use bupo_runs::Damaged;
pub use config::{
    Algorithm, BenchmarkConfig, CheckpointConfig, CorrectionConfig, CriticConfig, DataConfig, DistributedConfig,
    EvaluationConfig, GeneratedTask, GuardConfig, KeepRollouts, LayerPart, MAY_CHANGE, ProbeConfig, RewardConfig,
    RolloutConfig, Shard, TaskConfig, TrainConfig, TrainSection, TrainedParameters, TruncatedReward, UpdateConfig,
    resumed_config,
};
pub use data::{
    Arithmetic, ArithmeticQuestions, Curriculum, FileQuestions, Questions, SyntheticProblem, Task, prompt_renderer,
};
pub use error::RlError;
pub use loss::{
    Advantage, Aggregation, BatchSize, ChosenTokens, Correction, CorrectionMode, Covariance, CovarianceMode,
    CriticTargets, EntropyTarget, KlEstimator, LossPreset, Objective, PlacedTargets, Ratio, RatioStats, ResponseLoss,
    ResponseValues, RewardKl, RewardedLength, SapoTemperatures, ScaleRewards, Surrogate, TokenValues, TokenWeights,
    ValueLoss, ValueStats, group_advantages, whiten,
};
pub use phases::{
    GuardAction, Phase, PhaseConfig, PhaseGuardMode, PhaseSite, Samples, Schedule, SiteDivergence, SiteTerm,
};
pub use rollout::{RolloutMetrics, SourceMetrics, has_reward_variance, overlong_penalty};
pub use sweep::{
    MeanOverSeeds, RunResult, Selectors, SiteSelectors, SweepEntry, SweepFolder, SweepPlan, SweepProgress, SweepResult,
    SweepRun, Variant,
};
pub use tools::{
    BenchMode, BenchResult, BenchSpec, DeviceNumbers, Difference, HELD_OUT_EVERY, LayerFit, Machine, MachineSizes,
    PretrainConfig, RecordedRollout, Roofline, TuneLensConfig, bench, pretrain, random_decoder, read_rollouts, replay,
    tune_lens,
};
pub use trainer::{
    AutoLayer, CriticMetrics, EvaluationLine, FirstStep, KeptCompletion, KeptRollout, MemoryPlan, Outcome, PhasePlan,
    PolicyMetrics, ProbeLine, Progress, ROLLOUTS, RunFolder, RunHeader, RunPlan, Start, StepMetrics, StepParts, Timing,
    UpdateMetrics, Warning, WarningKind, make_empty_folder, shrink_to_memory, train, train_among,
};
pub use update::{
    AdamWSettings, Critic, CriticStats, Decay, DecoderOptimizer, LearningRateSchedule, LossSpec, MomentDtype, Moments,
    PolicySpec, Sample, SamplingLogProbs, TermLogProbs, UpdateStats, ValueHead, WeightStorage, response_stats, update,
    update_with_critic,
};
