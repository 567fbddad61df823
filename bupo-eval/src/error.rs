//! Errors of prompts, responses and evaluations.

use std::path::{Path, PathBuf};

use bupo_core::CoreError;
use bupo_data::DataError;
use bupo_data::chat::ChatError;
use bupo_engine::EngineError;
use bupo_grade::GradeError;
use bupo_models::ModelError;
use bupo_runs::RunsError;

/// Errors of this crate. Each says what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
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
    /// Settings that do not fit together or do not fit the data.
    #[error("settings: {0}")]
    Config(String),
    /// A line of a JSON-lines file cannot be used.
    #[error("{} line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has no usable content.
    #[error("{}: {reason}", path.display())]
    NoData {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Two evaluations to compare are of other problems.
    #[error("the evaluations are of other problems and cannot be compared: {0}; run both on the same data")]
    OtherProblems(String),
    /// The output folder is not empty.
    #[error("{} exists and is not empty; choose another --out, or remove it", .0.display())]
    FolderExists(PathBuf),
    /// A run's or an evaluation's files.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// A model's files, weights or tokens.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An engine that samples.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A data file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A grading rule or a scorer.
    #[error(transparent)]
    Grade(#[from] GradeError),
    /// A policy site or a policy's values.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl EvalError {
    /// An I/O error at a path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
