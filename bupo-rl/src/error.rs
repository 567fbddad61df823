//! Errors of training.

use std::path::{Path, PathBuf};

use bupo_analysis::AnalysisError;
use bupo_core::CoreError;
use bupo_data::DataError;
use bupo_data::chat::ChatError;
use bupo_eval::EvalError;
use bupo_grade::GradeError;
use bupo_models::ModelError;
use bupo_runs::RunsError;

/// Errors of this crate. Each says what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum RlError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Settings that cannot be read or do not fit together.
    #[error("settings: {0}")]
    Config(String),
    /// A line of recorded rollouts cannot be used.
    #[error("{} line {line}: {reason}", path.display())]
    Rollout {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder has no usable content.
    #[error("{}: {reason}", path.display())]
    NoData {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The output folder is not empty.
    #[error("{} exists and is not empty; choose another --out, or remove it", .0.display())]
    FolderExists(PathBuf),
    /// Too many updates in a row were skipped.
    #[error(
        "{updates} updates in a row had a loss or gradient that is not finite, the last in step {step}; their batches are \
         saved in {}; lower optimizer.learning_rate, and continue from the newest checkpoint with --resume or --fork",
        folder.display()
    )]
    Diverged {
        /// The number of skipped updates in a row.
        updates: usize,
        /// The step of the last one.
        step: usize,
        /// The folder with their batches.
        folder: PathBuf,
    },
    /// A prompt, a response or an evaluation.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A run's files.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// A model's files, weights or tokens.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A data file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A grading rule or a scorer.
    #[error(transparent)]
    Grade(#[from] GradeError),
    /// A measurement of the internal policies.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// A policy site or a policy's values.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl RlError {
    /// An I/O error at a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
