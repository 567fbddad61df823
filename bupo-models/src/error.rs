//! What can be wrong with a model folder, its config, its weights or its use.

use std::path::{Path, PathBuf};

use bupo_core::CoreError;

use crate::pretrained::hub::HubError;

/// Errors of the models crate. Each says what is wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
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
    /// A JSON file does not say what it must.
    #[error("{}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        reason: String,
    },
    /// The folder has no weights this project reads.
    #[error("{}: {reason}", folder.display())]
    NoWeights {
        /// The model folder.
        folder: PathBuf,
        /// What was found and what is wanted.
        reason: String,
    },
    /// The config asks for something the decoder does not do.
    #[error("config.json: {what} is not supported; {mend}")]
    Unsupported {
        /// The feature, as the config names it.
        what: String,
        /// What is supported instead.
        mend: String,
    },
    /// The config contradicts itself.
    #[error("config.json: {0}")]
    Config(String),
    /// A safetensors file is damaged.
    #[error("{}: damaged safetensors file: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The weights do not fit the config.
    #[error("{}: {reason}", place.display())]
    Weights {
        /// The file or folder.
        place: PathBuf,
        /// The tensor and what is wrong with it.
        reason: String,
    },
    /// The device does not compute in bf16.
    #[error("{backend} does not compute in bf16 here; choose the dtype f32, or auto")]
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
    /// Rows of tokens have a shape that cannot be used.
    #[error("{0}")]
    Tokens(String),
    /// The tokenizer or the chat template failed.
    #[error("{}: {reason}", place.display())]
    Tokenizer {
        /// The file.
        place: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A model of the Hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A policy site or a policy's values.
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
        move |error| Self::Json { path, reason: error.to_string() }
    }
}
