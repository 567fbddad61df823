//! Errors of reports.

use std::path::PathBuf;

use bupo_chart::ChartError;
use bupo_runs::RunsError;

/// Errors of the report crate.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A folder is not the folder of a training run.
    #[error("{}: {reason}", path.display())]
    NotARun {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The page could not be rendered.
    #[error("the page could not be rendered: {0}")]
    Page(#[from] minijinja::Error),
    /// A chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A file of a run's folder could not be read.
    #[error(transparent)]
    Runs(#[from] RunsError),
}
