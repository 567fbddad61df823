//! What a run tells while it goes on, and what it comes to.

use std::fmt;
use std::path::{Path, PathBuf};

use bupo_analysis::Boundary;
use bupo_core::PolicySite;
use bupo_runs::Damaged;
use serde::Serialize;

use crate::config::TrainConfig;
use crate::evaluate::Evaluation;
use crate::schedule::Phase;

/// What a run tells while it goes on.
pub trait Progress {
    /// The model is loaded and everything is checked.
    fn ready(&mut self, plan: &Plan<'_>);
    /// An evaluation is about to start.
    fn evaluating(&mut self, when: &str);
    /// An evaluation is done.
    fn evaluated(&mut self, when: &str, evaluation: &Evaluation);
    /// The layer of the phases that leave it open was found.
    fn boundary(&mut self, boundary: &Boundary);
    /// Checkpoints were damaged, and an older one is gone on from.
    fn passed_over(&mut self, damaged: &[Damaged]);
    /// A phase begins; the run has so many steps in all, as it now stands.
    fn phase(&mut self, number: usize, phase: &Phase, steps: usize);
    /// A step is done.
    fn step(&mut self, metrics: &StepMetrics);
    /// The share of its memory that the device has free, which a run that takes too much of it is made smaller by; nothing where nobody
    /// knows.
    fn memory_free(&mut self) -> Option<f64> {
        None
    }
}

/// What a run is about to do.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The resolved settings.
    pub config: &'a TrainConfig,
    /// Steps of all phases.
    pub steps: usize,
    /// Layers of the model.
    pub num_layers: usize,
    /// Parameters of the model.
    pub num_params: usize,
    /// The questions, in a line.
    pub questions: String,
    /// The run folder.
    pub folder: &'a Path,
    /// Steps that are done already.
    pub done: usize,
}

/// Where a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the beginning, in a new folder.
    New,
    /// After the newest complete checkpoint in the folder; at the beginning where there is none.
    Resume,
    /// In a new folder, after a checkpoint of another run: of this step, or the newest complete one.
    Fork {
        /// The other run's folder.
        from: PathBuf,
        /// After which step.
        step: Option<usize>,
    },
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Before training.
    pub before: Evaluation,
    /// After training; nothing where the run was stopped.
    pub after: Option<Evaluation>,
    /// Steps done.
    pub steps: usize,
    /// The step after which an evaluation found the highest Avg@K, where there were evaluations in between.
    pub best_step: Option<usize>,
    /// The run folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The trained model within it.
    #[serde(skip)]
    pub model: PathBuf,
}

/// One line of `metrics.jsonl`. Means are over the step's responses or response tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepMetrics {
    /// From 1.
    pub step: usize,
    /// The phase's number, from 1.
    pub phase: usize,
    /// The policy trained.
    pub site: PolicySite,
    /// Mean reward.
    pub reward: f64,
    /// Its standard error, by how far the groups' means are apart.
    pub reward_error: f64,
    /// Mean over groups of the rewards' standard deviation.
    pub reward_std: f64,
    /// Share of groups whose rewards are all equal, which teach nothing.
    pub frac_reward_zero_std: f64,
    /// Responses sampled; with dynamic sampling, more than are learnt from.
    pub responses: usize,
    /// Groups learnt from.
    pub groups: usize,
    /// Responses so far that a scorer failed to grade, which are worth nothing.
    pub grading_failures: usize,
    /// Mean entropy in nats of the trained policy at the response tokens, before the step.
    pub entropy: f64,
    /// Mean of `logp_old - logp` over the step's updates.
    pub kl: f64,
    /// Mean of the estimated KL to the frozen reference, where the loss has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_kl: Option<f64>,
    /// Mean loss of the updates.
    pub loss: f64,
    /// Mean global norm of the updates' gradients before clipping.
    pub grad_norm: f64,
    /// Share of tokens whose ratio was clipped.
    pub clip_ratio: f64,
    /// Share of tokens bounded by the dual clip.
    pub dual_clip_ratio: f64,
    /// The importance ratio furthest from 1 in the first update, which is 1 exactly.
    pub first_ratio: f64,
    /// The importance ratio furthest from 1 in any update.
    pub extreme_ratio: f64,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Share of responses cut by the length limit.
    pub truncated: f64,
    /// Share of responses that ended with their first token.
    pub empty: f64,
    /// The full policy's perplexity on the responses it has just sampled.
    pub perplexity: f64,
    /// Mean distance in nats between the log-probs a few of the responses were sampled with and those that the pass which trains
    /// finds; rounding where the two are one policy.
    pub sampling_gap: f64,
    /// The largest.
    pub sampling_gap_max: f64,
    /// KL(trained policy || full policy) on a few of the responses, in nats per token, where an internal policy is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_to_full: Option<f64>,
    /// How much less probable the full policy finds a token of its responses before training than it did then, in nats: an estimate of
    /// KL(before training || now), where an internal policy is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// What looks wrong with this step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// What the phase guard did after this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardAction>,
    /// Updates left out because their gradient was not finite.
    pub skipped_updates: usize,
    /// AdamW's step size.
    pub learning_rate: f64,
    /// Prompt and response tokens of the step over its seconds.
    pub tokens_per_second: f64,
    /// Seconds spent generating.
    pub seconds_rollout: f64,
    /// Seconds spent on old log-probs and updates.
    pub seconds_update: f64,
}

/// Something that may spoil a run without stopping it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// What kind it is of.
    pub kind: WarningKind,
    /// What it is, what it means, and the mend.
    pub text: String,
}

/// Kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// Responses were sampled with other log-probs than training finds.
    SamplingGap,
    /// A token's probability changed many-fold within a step.
    ImportanceRatio,
    /// Updates were left out because their loss or gradient was not finite.
    SkippedUpdates,
    /// Little memory was left, and less is run at once from here on.
    Memory,
}

/// What was done about a phase that has gone on for too long, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum GuardAction {
    /// It was told of.
    Warned {
        /// Why.
        reason: String,
    },
    /// The phase ended with this step.
    Switched {
        /// Why.
        reason: String,
    },
    /// The phase ended with this step, and its updates since `to_step` were taken back.
    RolledBack {
        /// The step whose weights and moments are trained from here on.
        to_step: usize,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for GuardAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warned { reason } => {
                write!(
                    f,
                    "{reason}: this phase hurts the full policy; guard.phase_guard = \"switch\" or \"rollback\" would end it here"
                )
            }
            Self::Switched { reason } => write!(f, "{reason}: the phase ends here"),
            Self::RolledBack { to_step, reason } => {
                write!(f, "{reason}: the phase ends here, and its updates after step {to_step} are taken back")
            }
        }
    }
}
