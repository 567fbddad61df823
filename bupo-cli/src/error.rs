//! Errors as the command line prints them: one sentence that says what is wrong, where, and how to fix it.

use std::path::{Path, PathBuf};

use bupo_analysis::AnalysisError;
use bupo_collective::CollectiveError;
use bupo_data::DataError;
use bupo_engine::EngineError;
use bupo_eval::EvalError;
use bupo_grade::GradeError;
use bupo_models::ModelError;
use bupo_report::ReportError;
use bupo_rl::RlError;
use bupo_runs::RunsError;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Rl(#[from] RlError),
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Runs(#[from] RunsError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Grade(#[from] GradeError),
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Message(String),
    /// Another process of the run has printed the error.
    #[error("printed by another process")]
    Printed,
}

impl CliError {
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// An error's text without the system's number of an error, `(os error 2)`, whose meaning stands before it.
pub fn sentence(error: &impl std::fmt::Display) -> String {
    let mut text = error.to_string();
    while let Some(start) = text.find(" (os error ") {
        let Some(length) = text[start..].find(')') else { break };
        text.replace_range(start..=start + length, "");
    }
    text
}
