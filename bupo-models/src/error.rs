//! Errors of model folders, configs, weights and their use.

use std::path::{Path, PathBuf};

use bupo_core::CoreError;
use serde_json::error::Category;

use crate::pretrained::hub::HubError;

/// Errors of the models crate. Each says what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A JSON file cannot be parsed, or a field of it has a value that cannot be used.
    #[error("{}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong; of a syntax error with line and column.
        reason: String,
    },
    /// A file is a Git LFS pointer.
    #[error(
        "{}: this is a Git LFS pointer, not the file itself; run `git lfs pull` in the model's folder, or download the file again",
        path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// The folder has no weights this project reads.
    #[error("{}: {reason}", folder.display())]
    NoWeights {
        /// The model folder.
        folder: PathBuf,
        /// What was found and what is needed.
        reason: String,
    },
    /// The config asks for a feature that the decoder does not have.
    #[error("config.json: {what} is not supported; {fix}")]
    Unsupported {
        /// The feature, as the config names it.
        what: String,
        /// What is supported instead.
        fix: String,
    },
    /// The config is incomplete or contradicts itself.
    #[error("config.json: {0}")]
    Config(String),
    /// A safetensors file is damaged.
    #[error("{}: damaged safetensors file: {reason}; download or copy it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The weights do not match the config or their index.
    #[error("{}: {reason}", place.display())]
    Weights {
        /// The file or folder.
        place: PathBuf,
        /// The tensor and what is wrong with it.
        reason: String,
    },
    /// The device does not support bf16.
    #[error("{backend} does not compute in bf16 on this machine; choose the dtype f32 or auto")]
    Dtype {
        /// The backend's name.
        backend: String,
    },
    /// A token id is not in the vocabulary.
    #[error("token id {id} (row {row}, position {position}) is outside the model's vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Its row, from 1.
        row: usize,
        /// Its position in the row, from 1.
        position: usize,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// Rows of token ids are missing, empty or of the wrong length.
    #[error("{0}")]
    Tokens(String),
    /// A stop string is empty.
    #[error("a stop string is empty; give the text that ends a response")]
    StopString,
    /// The tokenizer or the chat template failed.
    #[error("{}: {reason}", place.display())]
    Tokenizer {
        /// The file.
        place: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A Hub model could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// An error of the core crate: a policy site, or non-finite logits.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl ModelError {
    /// An I/O error at a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A JSON error in a file.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Json { path, reason: json_reason(&error) }
    }
}

/// What is wrong with a model's JSON, and the mend.
pub(crate) fn json_reason(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Eof => format!("it ends early, in line {}", error.line().max(1)),
        // Names of types say nothing to a reader.
        _ => error.to_string().replace("expected usize", "expected a whole number"),
    };
    format!("{what}; correct it, or fetch the model again")
}
