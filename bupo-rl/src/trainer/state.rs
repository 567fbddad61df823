//! The state of a run in a checkpoint, besides weights and moments.

use std::collections::BTreeMap;

use bupo_eval::{BenchmarkResult, Evaluation};
use serde::{Deserialize, Serialize};

use super::critic::CriticState;
use super::inputs::Inputs;
use super::probe::Probe;
use crate::data::Curriculum;
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
    pub(crate) before: Option<Evaluated>,
    /// The newest evaluation and its step.
    pub(crate) newest: Option<(usize, Evaluated)>,
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
    /// The critic, if there is one.
    #[serde(default)]
    pub(crate) critic: Option<CriticState>,
    /// The training rows that are drawn no more.
    #[serde(default)]
    pub(crate) curriculum: Curriculum,
    /// The coefficient of the entropy bonus, if it follows a target.
    #[serde(default)]
    pub(crate) entropy_coefficient: Option<f64>,
    /// The input files; empty in checkpoints of earlier versions.
    #[serde(default)]
    pub(crate) inputs: Inputs,
}

impl TrainerState {
    /// The state before the first step.
    pub(crate) fn new(schedule: Schedule, inputs: Inputs) -> Self {
        Self {
            step: 0,
            draws: 0,
            grading_failures: 0,
            skipped_in_row: 0,
            schedule,
            before: None,
            newest: None,
            best: None,
            without_gain: 0,
            probe: None,
            initial_policy: None,
            guard: PhaseGuard::default(),
            optimizer_steps: BTreeMap::new(),
            critic: None,
            curriculum: Curriculum::default(),
            entropy_coefficient: None,
            inputs,
        }
    }

    /// The state of a checkpoint, with the schedule and inputs of the run that continues it.
    pub(crate) fn continued(self, saved: Self) -> Self {
        let mut schedule = self.schedule;
        schedule.restore(&saved.schedule);
        Self { schedule, inputs: self.inputs, ..saved }
    }

    /// Drops what belongs to the parent of a fork: its checkpoints, and its evaluations unless the fork evaluates alike.
    pub(crate) fn forked(&mut self, evaluates_alike: bool) {
        self.guard.best = None;
        if !evaluates_alike {
            (self.before, self.newest, self.best, self.without_gain) = (None, None, None, 0);
            // Its rows may be others.
            self.curriculum = Curriculum::default();
        }
    }

    /// Whether `patience` evaluations in a row brought no higher Avg@K; never for 0.
    pub(crate) fn early_stopped(&self, patience: usize) -> bool {
        patience > 0 && self.without_gain >= patience
    }
}

/// An evaluation: the unweighted mean over benchmarks, and each of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Evaluated {
    #[serde(flatten)]
    pub(crate) mean: Evaluation,
    #[serde(default)]
    pub(crate) benchmarks: Vec<BenchmarkResult>,
}

impl Default for Evaluated {
    fn default() -> Self {
        Self { mean: Evaluation::of(&[]), benchmarks: Vec::new() }
    }
}
