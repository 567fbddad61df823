//! The tables of a settings file, with their defaults.

use std::path::PathBuf;

use bupo_data::Columns;
use bupo_eval::{ChatChoice, Overlong, PromptOptions};
use serde::{Deserialize, Serialize};

use crate::data::Arithmetic;
use crate::phases::PhaseGuardMode;

/// The embedded arithmetic task's sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// The most numbers in a problem, from 2.
    pub max_terms: usize,
    /// The largest number in a problem.
    pub max_number: u32,
}

/// Problems from Parquet and JSON lines. Without training files, the embedded arithmetic problems are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Training files.
    pub train: Vec<PathBuf>,
    /// Files to measure on; without any, `evaluation.problems` rows of the training files are set apart.
    pub validation: Vec<PathBuf>,
    /// The column of prompts, chat messages or text; nothing for the well-known names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_column: Option<String>,
    /// The column of right answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_column: Option<String>,
    /// The column that says where a row comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_column: Option<String>,
    /// Prompts of more tokens are over-long.
    pub max_prompt_tokens: usize,
    /// What becomes of over-long prompts.
    pub overlong: Overlong,
    /// Whether rows are put in a new order each epoch; rows that do not fill a step at its end are left out.
    pub shuffle: bool,
    /// Which chat template makes prompts.
    pub chat_template: ChatChoice,
    /// What chat templates know as `enable_thinking`; nothing for the template's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<bool>,
}

/// How responses are made, from the full policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Prompts per step.
    pub prompts: usize,
    /// Responses per prompt, G.
    pub group_size: usize,
    /// Divides the logits, here and in the loss.
    pub temperature: f64,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Responses generated at once; it changes memory and speed, not the responses.
    pub batch: usize,
    /// Dynamic sampling (DAPO, arXiv 2503.14476): groups whose rewards are all equal are left out and further prompts
    /// are drawn, this many times the prompts per step at most; 1 leaves it off.
    pub max_draws: usize,
    /// Over-long reward shaping (DAPO): within this last share of `max_new_tokens` a response's reward falls linearly
    /// with its length, by `overlong_penalty` at the limit; 0 leaves it off.
    pub overlong_share: f64,
    /// What a response of `max_new_tokens` loses by it.
    pub overlong_penalty: f64,
}

/// How a step's responses change the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Prompts per update, with all their responses; it divides the prompts per step.
    pub mini_batch_prompts: usize,
    /// Tokens run at once, padding included; it changes memory and speed, not the update. A longer sequence is run alone.
    pub max_tokens_per_batch: usize,
    /// Whether layers are run again on the way back rather than remembered: a third more work, a fraction of the memory.
    pub recompute: bool,
}

/// What is kept to go on from: weights, moments and all that a run needs to be the same run afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// A checkpoint after every one of this many steps, and after the last; 0 after the last alone.
    pub every: usize,
    /// How many of the newest are kept, at least 1.
    pub keep_last: usize,
    /// Those of every one of this many steps are kept too; 0 none.
    pub keep_every: usize,
}

/// What a run that goes wrong is kept from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Updates in a row that may be left out because a loss or a gradient was not finite.
    pub max_skipped: usize,
    /// What happens when a phase that trains an internal policy starts to hurt the full one.
    pub phase_guard: PhaseGuardMode,
}

/// How the model is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Held-out problems.
    pub problems: usize,
    /// Responses per problem, K of Avg@K and Pass@K.
    pub samples: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// Measured after every one of this many steps too; 0 before and after alone.
    pub every: usize,
    /// The run ends early after this many of these evaluations in a row without a better Avg@K; 0 never.
    pub patience: usize,
}

/// How the internal policies are watched while training: on the responses of the first evaluation, the same ones every time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Before the first step and after every one of this many; 0 never.
    pub every: usize,
    /// On one response to each of this many held-out problems.
    pub prompts: usize,
}

impl Default for TaskConfig {
    fn default() -> Self {
        let Arithmetic { max_terms, max_number } = Arithmetic::default();
        Self { max_terms, max_number }
    }
}

impl TaskConfig {
    /// The task of these sizes.
    pub fn task(&self) -> Arithmetic {
        Arithmetic { max_terms: self.max_terms, max_number: self.max_number }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            prompt_column: None,
            answer_column: None,
            source_column: None,
            max_prompt_tokens: 1024,
            overlong: Overlong::Drop,
            shuffle: true,
            chat_template: ChatChoice::Auto,
            thinking: None,
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
        }
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
        }
    }
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self { mini_batch_prompts: 16, max_tokens_per_batch: 4096, recompute: false }
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
        Self { problems: 200, samples: 8, temperature: 1.0, every: 0, patience: 0 }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { every: 10, prompts: 16 }
    }
}
