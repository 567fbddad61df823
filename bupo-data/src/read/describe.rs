//! Descriptions of data files.

use std::fmt;

/// The format, size and columns of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The format of the file.
    pub format: Format,
    /// The number of rows.
    pub rows: u64,
    /// The columns, in the order of the file; those inside a struct are named with dots.
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
    JsonLines,
    /// One JSON list of objects.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Parquet => "Parquet",
            Self::JsonLines => "JSON lines",
            Self::Json => "JSON",
        })
    }
}
