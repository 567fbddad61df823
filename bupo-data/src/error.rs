//! Errors of reading and selecting problems.

use std::path::PathBuf;

/// Errors of reading and selecting problems. Each names what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is of an unsupported format.
    #[error("{file} is neither Parquet nor JSON: give a .parquet, .jsonl or .json file")]
    Format {
        /// The file.
        file: String,
    },
    /// A text file is not UTF-8.
    #[error("{file} is {encoding} text: save it as UTF-8")]
    Encoding {
        /// The file.
        file: String,
        /// Its encoding.
        encoding: &'static str,
    },
    /// A file is a git-lfs pointer to the data.
    #[error("{file} is a git-lfs pointer, not the data: run `git lfs pull` in its repository")]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// A Parquet file is inconsistent, incomplete or not decodable.
    #[error("{file} is a damaged Parquet file: {reason}; fetch or write it again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A Parquet file uses an unsupported feature.
    #[error("{file} uses {what}, which is not supported; write it again with pyarrow's defaults")]
    Unsupported {
        /// The file.
        file: String,
        /// The feature.
        what: String,
    },
    /// A file exceeds a size limit.
    #[error("{file} is refused: {what}")]
    TooLarge {
        /// The file.
        file: String,
        /// What is too large, and the limit.
        what: String,
    },
    /// A line is not valid JSON, or not a row of problems.
    #[error("{file}: line {line}: {reason}; correct or delete the line")]
    Json {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A named column does not exist.
    #[error("{file} has no column `{name}` for the {role}; it has {available}: name one of them by {}", setting(role))]
    NoColumn {
        /// The file.
        file: String,
        /// The name of the column.
        name: String,
        /// `prompt`, `answer` or `data source`.
        role: &'static str,
        /// The columns of the file.
        available: String,
    },
    /// No column was named, and none has a default name.
    #[error(
        "cannot tell which column of {file} holds the {role}; it has {available}: name one of them by {}",
        setting(role)
    )]
    NoDefault {
        /// The file.
        file: String,
        /// `prompt` or `answer`.
        role: &'static str,
        /// The columns of the file.
        available: String,
    },
    /// A column has a type that its role does not allow.
    #[error(
        "column `{column}` of {file} is {found}, but the {role} must be {allowed}; name another column by {}",
        setting(role)
    )]
    ColumnType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// `prompt`, `answer` or `data source`.
        role: &'static str,
        /// The types that its role allows.
        allowed: &'static str,
    },
    /// A row has a missing or invalid value.
    #[error("{file}: row {row}: {reason}; correct or delete the row")]
    Row {
        /// The file.
        file: String,
        /// The row, counted from 1.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file has no rows.
    #[error("{file} holds no problems; leave it out")]
    Empty {
        /// The file.
        file: String,
    },
    /// A batch is empty or larger than the number of problems.
    #[error("a batch of {batch} cannot be drawn from {rows} problems: take a batch of 1 to {rows}")]
    Batch {
        /// The size of the batch.
        batch: usize,
        /// The number of problems.
        rows: usize,
    },
    /// A validation set leaves no problems to train on.
    #[error("{held_out} problems cannot be held out of {rows}: hold out fewer than {rows}")]
    HeldOut {
        /// The size of the validation set.
        held_out: usize,
        /// The number of problems.
        rows: usize,
    },
}

/// The setting and the option that name the column of a role.
fn setting(role: &str) -> &'static str {
    match role {
        "prompt" => "data.prompt_column or --prompt-column",
        "answer" => "data.answer_column or --answer-column",
        _ => "data.source_column or --source-column",
    }
}
