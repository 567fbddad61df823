//! What can be wrong with settings, rollouts and run folders.

use std::path::{Path, PathBuf};

use bupo_analysis::AnalysisError;
use bupo_core::CoreError;
use bupo_data::DataError;
use bupo_data::chat::ChatError;
use bupo_eval::EvalError;
use bupo_grade::GradeError;
use bupo_models::ModelError;
use bupo_runs::RunsError;

/// Errors of the learning crate. Each says what is wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum RlError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
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
    /// A file has nothing to learn from.
    #[error("{}: {reason}", path.display())]
    NoData {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The folder to write to is taken.
    #[error("{} exists and is not empty; choose another --out, or remove it", .0.display())]
    FolderExists(PathBuf),
    /// Too many updates in a row were left out.
    #[error(
        "no finite gradient in {updates} updates in a row, the last in step {step}: what they were made of is in {}; \
         lower optimizer.learning_rate, and go on from the newest checkpoint with --resume or --fork",
        folder.display()
    )]
    Diverged {
        /// How many.
        updates: usize,
        /// The last one's step.
        step: usize,
        /// Where their batches are.
        folder: PathBuf,
    },
    /// Prompts, responses and evaluations.
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
    /// Measuring the internal policies.
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
