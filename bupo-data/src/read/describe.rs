//! What a file holds.

use std::fmt;

/// What a file of problems holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The format of the file.
    pub format: Format,
    /// How many rows it has.
    pub rows: u64,
    /// Its columns, in the file's order; those inside a struct are named with dots.
    pub columns: Vec<Column>,
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, as it can be given in [`Columns`](crate::Columns).
    pub name: String,
    /// Its type: `string`, `int64`, `list<struct<role: string, content: string>>`, `null` and so on.
    pub kind: String,
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Parquet.
    Parquet,
    /// A JSON object on each line.
    JsonLinesWriter,
    /// One JSON list of objects.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Parquet => "Parquet",
            Self::JsonLinesWriter => "JSON lines",
            Self::Json => "JSON",
        })
    }
}
