//! What can go wrong with a report.

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
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder is not what a training run leaves.
    #[error("{}: {reason}", path.display())]
    NotARun {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The page could not be put together.
    #[error("the page could not be made: {0}")]
    Page(#[from] minijinja::Error),
    /// A picture could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A file of a run's folder.
    #[error(transparent)]
    Runs(#[from] RunsError),
}
