//! What can be wrong with what a run left on the disk.

use std::path::{Path, PathBuf};

/// Errors of a run's files. Each says what is wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunsError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A checkpoint was given something that cannot be checked later.
    #[error("{} cannot be part of a checkpoint: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A line of a log cannot be read.
    #[error("{} line {line} is not JSON: {reason}; mend or delete the line", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A log cannot be appended to as it is.
    #[error("{} ends in half a line; delete that line, or go on with the run that wrote it", .0.display())]
    HalfLine(PathBuf),
    /// Another process works in the run folder.
    #[error("{} is in use by {}; wait for it or stop it", folder.display(), holder(*pid))]
    Busy {
        /// The run folder.
        folder: PathBuf,
        /// The process, if it could be told.
        pid: Option<u32>,
    },
    /// A run's `state.json` cannot be understood.
    #[error("{} is not the state of a run: {reason}; delete it, which loses nothing else", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A checkpoint that is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {} is damaged: {reason}; go on from another checkpoint", path.display())]
pub struct Damaged {
    /// The checkpoint's folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Damage,
}

/// What can be wrong with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The folder is missing.
    #[error("there is no such folder")]
    NoFolder,
    /// The manifest is missing, so the folder was never complete or somebody deleted it.
    #[error("it has no manifest.json")]
    NoManifest,
    /// The manifest stops before its end.
    #[error("its manifest.json ends early")]
    TruncatedManifest,
    /// The manifest is of another version of this program.
    #[error("its manifest.json has format {0}, and this program reads format {format}", format = crate::FORMAT)]
    Format(String),
    /// The manifest is not one.
    #[error("its manifest.json cannot be understood: {0}")]
    BadManifest(String),
    /// The manifest is of another step than the folder's name says.
    #[error("its manifest.json is of step {0}")]
    OtherStep(usize),
    /// A file is missing.
    #[error("{0} is missing")]
    MissingFile(String),
    /// A file is shorter or longer than what was written.
    #[error("{file} has {found} bytes where {expected} were written")]
    Size {
        /// Its path in the checkpoint.
        file: String,
        /// Bytes written.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A file's bytes are not those that were written.
    #[error("the checksum of {0} is not that of what was written")]
    Checksum(String),
    /// The system does not give a file's bytes.
    #[error("{file} cannot be read: {reason}")]
    Unreadable {
        /// Its path in the checkpoint.
        file: String,
        /// What the system said.
        reason: String,
    },
}

impl RunsError {
    /// An I/O error at a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}
