//! The errors of this crate.

use std::path::{Path, PathBuf};

/// Errors of the files in a run folder. Each message says what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunsError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed operation, such as `read`, `write` or `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A checkpoint differs from what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The folder of a new checkpoint has an entry that is neither a file nor a folder, or whose name is not UTF-8.
    #[error("{} cannot be part of a checkpoint: {reason}; remove it", path.display())]
    UnsupportedEntry {
        /// The entry.
        path: PathBuf,
        /// The reason.
        reason: &'static str,
    },
    /// A line of a JSON-lines file is invalid.
    #[error("{} line {line}: {reason}; correct or delete the line", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
        /// The reason.
        reason: String,
    },
    /// A log cannot be appended to because its last line has no line end.
    #[error("{} ends in an unfinished line; delete that line, or resume the run that wrote it", .0.display())]
    UnfinishedLine(PathBuf),
    /// Another process holds the lock of the run folder.
    #[error("{} is in use by {}; wait until it ends or stop it", folder.display(), holder(*pid))]
    Locked {
        /// The run folder.
        folder: PathBuf,
        /// The process id of the holder, if known.
        pid: Option<u32>,
    },
    /// A run's `state.json` is invalid.
    #[error("{} is not the state of a run: {reason}; delete it: checkpoints and logs do not depend on it", path.display())]
    InvalidState {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// A checkpoint that differs from what was written.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {} is damaged: {reason}; use another checkpoint", path.display())]
pub struct Damaged {
    /// The checkpoint's folder.
    pub path: PathBuf,
    /// The reason.
    pub reason: Damage,
}

/// The ways in which a checkpoint can be damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The folder is missing.
    #[error("there is no such folder")]
    MissingFolder,
    /// The manifest is missing: the checkpoint was not written by [`PendingCheckpoint::commit`](crate::PendingCheckpoint::commit), or the
    /// manifest was deleted.
    #[error("it has no manifest.json")]
    MissingManifest,
    /// The manifest is incomplete JSON.
    #[error("its manifest.json ends early")]
    TruncatedManifest,
    /// The manifest was written by another version of this program, in another format.
    #[error("its manifest.json has format {found}, and this program reads format {expected}")]
    Format {
        /// The format in the manifest, as JSON.
        found: String,
        /// The format that is read.
        expected: u32,
    },
    /// The manifest is not valid.
    #[error("its manifest.json is invalid: {0}")]
    InvalidManifest(String),
    /// The manifest belongs to another step than the folder's name.
    #[error("its manifest.json belongs to step {0}")]
    WrongStep(usize),
    /// A file is missing.
    #[error("{0} is missing")]
    MissingFile(String),
    /// A file is shorter or longer than when it was written.
    #[error("{file} has {found} bytes where {expected} were written")]
    Size {
        /// The path in the checkpoint.
        file: String,
        /// The length when written, in bytes.
        expected: u64,
        /// The length now, in bytes.
        found: u64,
    },
    /// A file's SHA-256 checksum differs from that in the manifest.
    #[error("the checksum of {0} differs from that in manifest.json")]
    Checksum(String),
    /// A file cannot be read.
    #[error("{file} cannot be read: {reason}")]
    Unreadable {
        /// The path in the checkpoint.
        file: String,
        /// The system's error.
        reason: String,
    },
}

impl RunsError {
    /// Makes an I/O error an error of `action` at `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// The holder of a lock, as a message names it.
fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}
