//! What can be wrong inside a Parquet file, before the file's name is known.

use crate::{error::DataError, read::limits::Exceeded};

/// A fault found while decoding.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes contradict each other.
    Damaged(String),
    /// A feature of the format that is not read.
    Unsupported(String),
    /// More memory asked for than allowed.
    TooLarge(String),
    /// The system could not read.
    Io(std::io::Error),
}

/// What decoding gives.
pub(super) type Decoded<T> = Result<T, Fault>;

/// A fault of contradicting bytes.
pub(super) fn damaged<T>(reason: impl Into<String>) -> Decoded<T> {
    Err(Fault::Damaged(reason.into()))
}

/// A fault of a feature that is not read.
pub(super) fn unsupported<T>(what: impl Into<String>) -> Decoded<T> {
    Err(Fault::Unsupported(what.into()))
}

impl Fault {
    /// The error of the file of that name.
    pub(super) fn of(self, file: &str) -> DataError {
        let file = file.to_owned();
        match self {
            Self::Damaged(reason) => DataError::Damaged { file, reason },
            Self::Unsupported(what) => DataError::Unsupported { file, what },
            Self::TooLarge(what) => DataError::TooLarge { file, what },
            Self::Io(source) => DataError::Io { path: file.into(), source },
        }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Self::TooLarge(exceeded.to_string())
    }
}
