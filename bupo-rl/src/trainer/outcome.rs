//! Where a run starts and how it ends.

use std::path::PathBuf;

use bupo_eval::Evaluation;
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
