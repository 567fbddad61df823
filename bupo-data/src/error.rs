//! What can be wrong with a file of problems, or with what is asked of it.

use std::path::PathBuf;

/// Errors of reading and choosing problems. Each says what is wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is of no format this project reads.
    #[error("{file} is neither Parquet nor JSON: give a .parquet, .jsonl or .json file")]
    Format {
        /// The file.
        file: String,
    },
    /// A text file is not in UTF-8.
    #[error("{file} is {encoding} text: save it as UTF-8")]
    Encoding {
        /// The file.
        file: String,
        /// Its encoding.
        encoding: &'static str,
    },
    /// A file was not fetched by git-lfs.
    #[error("{file} is a git-lfs pointer, not the data: run `git lfs pull` in its repository")]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// A Parquet file contradicts itself, ends early or holds garbage.
    #[error("{file} is a damaged Parquet file: {reason}; fetch or write it again")]
    Damaged {
        /// The file.
        file: String,
        /// What does not fit.
        reason: String,
    },
    /// A Parquet file uses something this reader does not have.
    #[error("{file} uses {what}, which is not read; write it again with pyarrow's defaults")]
    Unsupported {
        /// The file.
        file: String,
        /// The feature.
        what: String,
    },
    /// A file asks for more memory than a file of its size may.
    #[error("{file} is refused: {what}")]
    TooLarge {
        /// The file.
        file: String,
        /// What is too large, and the limit.
        what: String,
    },
    /// A line is not the JSON it must be.
    #[error("{file}: line {line}: {reason}")]
    Json {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// A column that was asked for is not there.
    #[error("{file} has no column `{name}` for the {role}; it has {available}")]
    NoColumn {
        /// The file.
        file: String,
        /// The name that was asked for.
        name: String,
        /// `prompt`, `answer` or `data source`.
        role: &'static str,
        /// The columns there are.
        available: String,
    },
    /// No column was named, and none has a name that says it is the one.
    #[error("cannot tell which column of {file} holds the {role}: name one of {available}")]
    NoDefault {
        /// The file.
        file: String,
        /// `prompt` or `answer`.
        role: &'static str,
        /// The columns there are.
        available: String,
    },
    /// A column cannot be what it is asked to be.
    #[error("column `{column}` of {file} is {found}, but the {role} must be {wanted}; name another column")]
    ColumnType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// `prompt`, `answer` or `data source`.
        role: &'static str,
        /// The types that will do.
        wanted: &'static str,
    },
    /// A row lacks something, or holds something that will not do.
    #[error("{file}: row {row}: {reason}")]
    Row {
        /// The file.
        file: String,
        /// The row, counted from 1.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no problems at all.
    #[error("{file} holds no problems; leave it out")]
    Empty {
        /// The file.
        file: String,
    },
    /// A batch that the problems cannot fill.
    #[error("a batch of {batch} cannot be drawn from {rows} problems: take a batch of 1 to {rows}")]
    Batch {
        /// The batch that was asked for.
        batch: usize,
        /// How many problems there are.
        rows: usize,
    },
    /// A validation set that would leave nothing to train on.
    #[error("{held_out} problems cannot be held out of {rows}: hold out fewer than {rows}")]
    HeldOut {
        /// How many were to be held out.
        held_out: usize,
        /// How many problems there are.
        rows: usize,
    },
}
