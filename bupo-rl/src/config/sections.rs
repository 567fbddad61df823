//! The tables of a settings file, with their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bupo_data::Columns;
use bupo_data::chat::TemplateDate;
use bupo_engine::{EngineKind, RemoteSettings};
use bupo_eval::{ChatChoice, Overlong, PromptOptions};
use bupo_grade::{Reward, Rewards, Rule};
use serde::{Deserialize, Serialize};

use super::benchmarks::BenchmarkConfig;
use super::generated_task::GeneratedTask;
use super::keep_rollouts::KeepRollouts;
use crate::loss::{Correction, CorrectionMode};
use crate::phases::PhaseGuardMode;

/// Problems from Parquet and JSON-lines files. Without training files, the embedded arithmetic task is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Training files.
    pub train: Vec<PathBuf>,
    /// The problems without training files.
    pub task: GeneratedTask,
    /// Validation files; without any, `evaluation.problems` rows of the training files are held out.
    pub validation: Vec<PathBuf>,
    /// The column of prompts (chat messages or text); `None` for the usual names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_column: Option<String>,
    /// The column of reference answers; `None` for the usual names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_column: Option<String>,
    /// The column of data sources; `None` for the usual names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_column: Option<String>,
    /// The longest prompt, in tokens.
    pub max_prompt_tokens: usize,
    /// What happens to longer prompts.
    pub overlong: Overlong,
    /// Whether rows are shuffled anew each epoch. The rows at an epoch's end that do not fill a step are dropped.
    pub shuffle: bool,
    /// A row whose last this many groups of responses had no reward variance, being solved always or never, is drawn no more from
    /// the next pass over the rows on; 0: every row is drawn.
    pub drop_after: usize,
    /// Whether the answer is extracted from reference answers that hold a whole solution (`... #### 72`). Not with external
    /// scorers, which get reference answers as they are.
    pub extract_answers: bool,
    /// The chat template.
    pub chat_template: ChatChoice,
    /// `enable_thinking` of the chat template; `None` for the template's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<bool>,
    /// The date that the chat template writes as today's, if it writes one: set when a run starts, so that a resumed run has
    /// the same prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_date: Option<TemplateDate>,
}

/// The reward of a response.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// The reward of problems from data sources that `by_source` does not name.
    pub rule: Reward,
    /// Rewards by data source: its name, or a prefix and `*`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_source: BTreeMap<String, Reward>,
    /// How truncated responses are treated; `None` for `grade` with problems from files and `zero` with the embedded task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<TruncatedReward>,
}

/// How responses that reach `rollout.max_new_tokens` are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TruncatedReward {
    /// Graded as they are (the reference implementation of arXiv 2512.19673, verl).
    Grade,
    /// Reward 0.
    Zero,
    /// Graded as they are and part of the group's mean and standard deviation, but not of the loss (TRL's
    /// `mask_truncated_completions`).
    Mask,
}

/// How responses are sampled from the full policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Prompts per step.
    pub prompts: usize,
    /// Responses per prompt, G.
    pub group_size: usize,
    /// Sampling temperature, also that of the log-probs in the loss.
    pub temperature: f64,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Responses generated at once; changes memory use and speed, not the responses.
    pub batch: usize,
    /// Dynamic sampling (DAPO, arXiv 2503.14476): groups without reward variance are dropped and further prompts drawn, up to
    /// this many times the prompts per step; 1 disables it.
    pub max_draws: usize,
    /// Over-long reward shaping (DAPO): within this last share of `max_new_tokens` the reward falls linearly with the
    /// response's length, by `overlong_penalty` at the limit; 0 disables it.
    pub overlong_share: f64,
    /// The reward subtracted from a response of `max_new_tokens`.
    pub overlong_penalty: f64,
    /// The responses of each step that are kept in `rollouts.jsonl`.
    pub keep: KeepRollouts,
    /// What samples: the project's own generation, or vLLM or SGLang servers.
    pub engine: EngineKind,
    /// The servers' addresses. They share the prompts.
    pub urls: Vec<String>,
    /// A folder on a disk that the servers read, in which each version of the weights is handed over; `None` for `weights` in the
    /// run's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_dir: Option<PathBuf>,
    /// The limit in seconds of each call of a server, and of waiting for a server that is gone.
    pub timeout: u64,
    /// Prompts that a server works on at once.
    pub concurrency: usize,
    /// Steps that servers sample ahead: 0, or 1 to sample a step while the one before is trained. Its responses are then of the
    /// weights one step older, which the correction takes into account.
    pub ahead: usize,
    /// The mean absolute difference in nats between the servers' and the trainer's log-probs of the same tokens above which a run
    /// stops.
    pub max_logp_difference: f64,
    /// The correction for the difference between the probabilities of engine and trainer.
    pub correction: CorrectionConfig,
}

/// How the loss is corrected for responses that another program sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorrectionConfig {
    /// How tokens are weighted; `None` for `token-truncate` with servers, and no correction with the own generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<CorrectionMode>,
    /// The largest importance ratio; `None` for 2 where ratios are truncated, 3 where responses are masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// How a step's responses are turned into updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Prompts per update, with all their responses; must divide the prompts per step.
    pub mini_batch_prompts: usize,
    /// Passes over a step's mini-batches, each update's ratios being to the policy before the step.
    pub epochs: usize,
    /// Tokens per micro-batch, on GPUs with padding, on CPUs with a shared prompt counted once; changes memory use and speed, not the
    /// update. A longer sequence is a micro-batch of its own.
    pub max_tokens_per_batch: usize,
    /// Activation checkpointing: layers are recomputed in the backward pass; about a third more work for a fraction of the
    /// memory.
    pub recompute: bool,
}

/// When checkpoints (weights, optimizer moments, trainer state) are written and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// A checkpoint is written every this many steps, and after the last; 0: after the last only.
    pub every: usize,
    /// The number of newest checkpoints kept, at least 1.
    pub keep_last: usize,
    /// Checkpoints at multiples of this many steps are kept too; 0: none.
    pub keep_every: usize,
}

/// Limits beyond which a run is stopped or a phase is ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Updates in a row that may be skipped because their loss or gradient is not finite.
    pub max_skipped: usize,
    /// What happens when a phase that trains an internal policy degrades the full policy.
    pub phase_guard: PhaseGuardMode,
}

/// Evaluation on held-out problems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// The number of held-out problems.
    pub problems: usize,
    /// Responses per problem, K of Avg@K and Pass@K.
    pub samples: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Evaluates every this many steps as well; 0: only before and after training.
    pub every: usize,
    /// Ends the run after this many evaluations in a row without a higher Avg@K; 0: never.
    pub patience: usize,
    /// What is evaluated, each with its own sampling; empty: validation files or held-out problems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<BenchmarkConfig>,
}

/// Training by several processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistributedConfig {
    /// What is shared out among the processes besides the work.
    pub shard: Shard,
    /// The longest time in seconds that a process waits for another before all end.
    pub timeout: u64,
}

/// What is shared out among the processes of a run besides the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shard {
    /// Nothing: each process has the whole optimizer.
    #[default]
    None,
    /// AdamW's moments (ZeRO-1, arXiv 1910.02054).
    Optimizer,
}

/// Measurements of the internal policies during training, always on the same responses of the first evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Measured before the first step and every this many steps; 0: never.
    pub every: usize,
    /// The number of held-out problems; one response to each is measured.
    pub prompts: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            task: GeneratedTask::default(),
            validation: Vec::new(),
            prompt_column: None,
            answer_column: None,
            source_column: None,
            max_prompt_tokens: 1024,
            overlong: Overlong::Drop,
            shuffle: true,
            drop_after: 0,
            extract_answers: true,
            chat_template: ChatChoice::Auto,
            thinking: None,
            template_date: None,
        }
    }
}

impl DataConfig {
    /// How rows become prompts.
    pub fn prompt_options(&self) -> PromptOptions {
        PromptOptions {
            columns: Columns {
                prompt: self.prompt_column.clone(),
                answer: self.answer_column.clone(),
                data_source: self.source_column.clone(),
            },
            max_prompt_tokens: self.max_prompt_tokens,
            overlong: self.overlong,
            extract_answers: self.extract_answers,
        }
    }
}

impl RolloutConfig {
    /// Whether servers sample.
    pub fn has_servers(&self) -> bool {
        self.engine != EngineKind::Own
    }

    /// The servers and how they are called.
    pub fn servers(&self) -> RemoteSettings {
        RemoteSettings {
            kind: self.engine,
            urls: self.urls.clone(),
            timeout: Duration::from_secs(self.timeout),
            concurrency: self.concurrency,
        }
    }

    /// The correction of the loss; `None` for the own generation unless a mode is set, and if it is off.
    pub fn correction(&self) -> Option<Correction> {
        let default = self.has_servers().then_some(CorrectionMode::TokenTruncate);
        let mode = self.correction.mode.or(default).filter(|mode| *mode != CorrectionMode::Off)?;
        Some(Correction { mode, max: self.correction.max.unwrap_or(mode.default_max()) })
    }

    /// The number of tokens before `max_new_tokens` in which the over-long penalty applies.
    pub(crate) fn overlong_tokens(&self) -> usize {
        (self.overlong_share * self.max_new_tokens as f64).round() as usize
    }
}

impl RewardConfig {
    /// Every rule that occurs.
    pub(crate) fn rules(&self) -> Vec<&Rule> {
        let rewards = [&self.rule].into_iter().chain(self.by_source.values());
        rewards
            .flat_map(|reward| match reward {
                Reward::Rule(rule) => vec![rule],
                Reward::Mix(rules) => rules.iter().map(|weighted| &weighted.rule).collect(),
            })
            .collect()
    }

    /// The grading rules.
    pub fn rewards(&self) -> Rewards {
        Rewards { rule: self.rule.clone(), by_source: self.by_source.clone() }
    }
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            prompts: 32,
            group_size: 8,
            temperature: 1.0,
            max_new_tokens: 32,
            batch: 2048,
            max_draws: 1,
            overlong_share: 0.0,
            overlong_penalty: 1.0,
            keep: KeepRollouts::None,
            engine: EngineKind::Own,
            urls: Vec::new(),
            weights_dir: None,
            timeout: 600,
            concurrency: 64,
            ahead: 0,
            max_logp_difference: 0.1,
            correction: CorrectionConfig::default(),
        }
    }
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self { mini_batch_prompts: 16, epochs: 1, max_tokens_per_batch: 4096, recompute: false }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 20, keep_last: 2, keep_every: 0 }
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { max_skipped: 3, phase_guard: PhaseGuardMode::Warn }
    }
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { problems: 200, samples: 8, temperature: 1.0, every: 0, patience: 0, benchmarks: Vec::new() }
    }
}

impl Default for DistributedConfig {
    fn default() -> Self {
        Self { shard: Shard::None, timeout: 1800 }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { every: 10, prompts: 16 }
    }
}
