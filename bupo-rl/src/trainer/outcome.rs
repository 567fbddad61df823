//! Start and outcome of a run.

use std::path::PathBuf;

use bupo_eval::Evaluation;
use serde::{Deserialize, Serialize};

/// Where a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At step 1, in a new folder.
    New,
    /// After the newest intact checkpoint in the folder; at step 1 if there is none.
    Resume,
    /// In a new folder, after a checkpoint of another run.
    Fork {
        /// The other run's folder.
        from: PathBuf,
        /// The checkpoint's step; `None` for the newest intact one.
        step: Option<usize>,
    },
}

/// The outcome of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// The evaluation before training.
    pub before: Evaluation,
    /// The evaluation after training; `None` if the run was stopped.
    pub after: Option<Evaluation>,
    /// Steps done.
    pub steps: usize,
    /// The step with the highest Avg@K; `None` without evaluations during training.
    pub best_step: Option<usize>,
    /// The run folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The folder of the trained model.
    #[serde(skip)]
    pub model: PathBuf,
}
