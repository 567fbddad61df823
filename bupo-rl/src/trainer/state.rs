//! The state of a run in a checkpoint, besides weights and moments.

use std::collections::BTreeMap;

use bupo_eval::Evaluation;
use serde::{Deserialize, Serialize};

use super::probe::Probe;
use crate::phases::{InitialPolicy, PhaseGuard, Schedule};

/// Everything a run needs to resume that is not weights, moments, or a function of the settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrainerState {
    /// Steps done.
    pub(crate) step: usize,
    /// Draws of prompts so far.
    pub(crate) draws: usize,
    /// Responses so far that scorers failed to grade.
    pub(crate) grading_failures: usize,
    /// Updates skipped in a row.
    pub(crate) skipped_in_row: usize,
    /// The phases, with `auto` layers resolved.
    pub(crate) schedule: Schedule,
    /// The evaluation before training.
    pub(crate) before: Option<Evaluation>,
    /// The newest evaluation and its step.
    pub(crate) newest: Option<(usize, Evaluation)>,
    /// The step and Avg@K of the best evaluation.
    pub(crate) best: Option<(usize, f64)>,
    /// Evaluations since the best.
    pub(crate) without_gain: usize,
    /// The responses on which the internal policies are measured, from the first evaluation on.
    pub(crate) probe: Option<Probe>,
    /// Responses and log-probs of the policy before training, for `drift`.
    #[serde(alias = "origin")]
    pub(crate) initial_policy: Option<InitialPolicy>,
    /// The phase guard's observations.
    pub(crate) guard: PhaseGuard,
    /// AdamW's step count by parameter.
    pub(crate) optimizer_steps: BTreeMap<u64, usize>,
}
