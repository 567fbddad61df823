//! Errors of engines.

use std::path::{Path, PathBuf};

use bupo_models::ModelError;

/// Errors of this crate. Each says what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
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
    /// A server address cannot be used.
    #[error("`{url}` is not the address of a server: {reason}; give one such as http://127.0.0.1:8000")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No server answers.
    #[error(
        "the server at {url} does not answer{}: {reason}; start it, or check the address and the server's log",
        waited.map_or(String::new(), |seconds| format!(" after {seconds} s of waiting"))
    )]
    Unreachable {
        /// The server's address.
        url: String,
        /// How many seconds it was waited for, if it answered before.
        waited: Option<u64>,
        /// The last failure.
        reason: String,
    },
    /// A server refuses a request.
    #[error("the server at {url} refuses the request with status {status}: {message}")]
    Refused {
        /// The server's address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// A server's answers cannot be used.
    #[error(
        "the server at {url} failed {attempts} times, the last time because {reason}; check the server's log and options"
    )]
    Failed {
        /// The server's address.
        url: String,
        /// The number of tries.
        attempts: usize,
        /// What is wrong with the last answer.
        reason: String,
    },
    /// A server did not load weights.
    #[error(
        "the server at {url} did not load the weights in {}: {reason}; check that it can read this folder under the same path, and \
         its log",
        folder.display()
    )]
    Weights {
        /// The server's address.
        url: String,
        /// The folder.
        folder: PathBuf,
        /// What the server says.
        reason: String,
    },
    /// The server runs with a context that is too short.
    #[error(
        "the server at {url} has a context of {limit} tokens, but prompt and response can have {tokens}; start it with a longer one \
         (--max-model-len, --context-length), or lower the length of prompts or responses"
    )]
    Context {
        /// The server's address.
        url: String,
        /// The server's limit.
        limit: usize,
        /// What is needed.
        tokens: usize,
    },
    /// A request that no server can meet.
    #[error("{0}")]
    Unsupported(String),
    /// An error of the own generation.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl EngineError {
    /// An I/O error at a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
