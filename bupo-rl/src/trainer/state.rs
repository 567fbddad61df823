//! The state of a run that a checkpoint holds besides weights and moments.

use std::collections::BTreeMap;

use bupo_eval::Evaluation;
use serde::{Deserialize, Serialize};

use super::probe::Probe;
use crate::phases::{InitialPolicy, PhaseGuard, Schedule};

/// Where a run is: all that is not weights, moments, or a function of the settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrainerState {
    /// Steps done.
    pub(crate) step: usize,
    /// Draws of prompts so far.
    pub(crate) draws: usize,
    /// Responses that scorers failed to grade, in earlier processes.
    pub(crate) grading_failures: usize,
    /// Updates left out in a row.
    pub(crate) skipped_in_row: usize,
    /// The phases, the layers of those that left them open found.
    pub(crate) schedule: Schedule,
    /// Before training.
    pub(crate) before: Option<Evaluation>,
    /// The newest evaluation, and after which step it was.
    pub(crate) newest: Option<(usize, Evaluation)>,
    /// The best one, by Avg@K.
    pub(crate) best: Option<(usize, f64)>,
    /// Evaluations since then.
    pub(crate) without_gain: usize,
    /// What the internal policies are watched on, from the first evaluation on.
    pub(crate) probe: Option<Probe>,
    /// What is measured on how far training has moved the policy, from the first evaluation on.
    #[serde(alias = "origin")]
    pub(crate) initial_policy: Option<InitialPolicy>,
    /// What the phase guard has seen of the phase.
    pub(crate) guard: PhaseGuard,
    /// AdamW's steps by parameter.
    pub(crate) optimizer_steps: BTreeMap<u64, usize>,
}
