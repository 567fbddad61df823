//! Errors of training.

use std::path::{Path, PathBuf};

use bupo_analysis::AnalysisError;
use bupo_collective::CollectiveError;
use bupo_core::CoreError;
use bupo_data::DataError;
use bupo_data::chat::ChatError;
use bupo_engine::EngineError;
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
    /// Servers and trainer compute different log-probs.
    #[error(
        "the log-probs of the servers' responses differ from the trainer's by {mean:.4} nats on average, more than \
         rollout.max_logp_difference = {max}: {}",
        which_side(*before)
    )]
    EngineDifference {
        /// The mean absolute difference in nats.
        mean: f64,
        /// The limit.
        max: f64,
        /// The difference after an earlier hand-over, if there was one.
        before: Option<f64>,
    },
    /// One of a run's processes failed; all of them end.
    #[error("process {rank} of {size}: {reason}")]
    Process {
        /// The process, from 0.
        rank: usize,
        /// The number of processes.
        size: usize,
        /// Why it failed.
        reason: String,
        /// Whether an engine failed that samples.
        of_an_engine: bool,
    },
    /// The connection of a run's processes.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// A prompt, a response or an evaluation.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A run's files.
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
    /// A measurement of the internal policies.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// A policy site or a policy's values.
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// Where to look for the cause of a difference.
fn which_side(before: Option<f64>) -> String {
    match before {
        Some(before) => format!(
            "they agreed to {before:.4} before the newest weights were handed over, so that a server has not loaded these; look at the \
             servers' logs"
        ),
        None => "look at the servers first: they need --logprobs-mode processed_logprobs (vLLM), the same model, and no quantization; \
                 then compare their --dtype with this run's dtype; bupo doctor checks the trainer's side"
            .into(),
    }
}

impl RlError {
    /// Whether an engine failed, or disagrees with the trainer.
    pub(crate) fn is_of_an_engine(&self) -> bool {
        match self {
            Self::Process { of_an_engine, .. } => *of_an_engine,
            Self::EngineDifference { .. } | Self::Engine(_) | Self::Eval(EvalError::Engine(_)) => true,
            _ => false,
        }
    }

    /// An I/O error at a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
