//! Start and outcome of a run.

use std::path::PathBuf;

use bupo_eval::{BenchmarkResult, Evaluation};
use bupo_models::SaveDtype;
use serde::{Deserialize, Serialize};

/// Where a run starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The evaluation before training: the unweighted mean over benchmarks.
    pub before: Evaluation,
    /// The evaluation after training; `None` if the run was stopped.
    pub after: Option<Evaluation>,
    /// The evaluation before training, by benchmark.
    #[serde(default)]
    pub before_by_benchmark: Vec<BenchmarkResult>,
    /// The evaluation after training, by benchmark.
    #[serde(default)]
    pub after_by_benchmark: Vec<BenchmarkResult>,
    /// Steps done.
    pub steps: usize,
    /// The step with the highest Avg@K; `None` without evaluations during training.
    pub best_step: Option<usize>,
    /// The share of the changed weights that rounding to the dtype of the saved model sets back to their values before training, in
    /// [0, 1]; `None` if the model was saved as trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounded_away: Option<f64>,
    /// The dtype in which the model was saved because rounding to its own dtype would set back too many changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_dtype: Option<SaveDtype>,
    /// The run folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The folder of the trained model.
    #[serde(skip)]
    pub model: PathBuf,
}
