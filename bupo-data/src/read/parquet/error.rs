//! Errors of reading a Parquet file, before the file's name is added.

use parquet::errors::ParquetError;

use crate::{error::DataError, read::limits::Exceeded};

/// An error found while reading.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The file contradicts itself.
    Damaged(String),
    /// The file uses a feature that is not supported.
    Unsupported(String),
    /// The file exceeds a limit.
    TooLarge(String),
    /// The system could not read the file.
    Io(std::io::Error),
}

impl ReadError {
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

    /// The same error with the column it was found in.
    pub(super) fn in_column(self, column: &str) -> Self {
        match self {
            Self::Damaged(reason) => Self::Damaged(format!("column `{column}`: {reason}")),
            other => other,
        }
    }
}

impl From<ParquetError> for ReadError {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::General(reason) | ParquetError::EOF(reason) => Self::Damaged(reason),
            ParquetError::NYI(what) => Self::Unsupported(format!("a feature of newer files ({what})")),
            // Decompressors report damaged data as errors of reading, too; only the system's have a code.
            ParquetError::External(source) => match source.downcast::<std::io::Error>() {
                Ok(source) if source.raw_os_error().is_some() => Self::Io(*source),
                Ok(source) => Self::Damaged(source.to_string()),
                Err(source) => Self::Damaged(source.to_string()),
            },
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<Exceeded> for ReadError {
    fn from(exceeded: Exceeded) -> Self {
        Self::TooLarge(exceeded.to_string())
    }
}
