//! Reading and describing data files.

mod columns;
mod describe;
mod json;
mod limits;
mod lines;
mod parquet;
mod text;

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use self::parquet::{MAGIC, in_memory};
pub use self::{
    columns::Columns,
    describe::{Column, Description, Format},
    limits::{MAX_TOTAL, MAX_VALUE},
};
use crate::{error::DataError, problems::Problem};

/// Reads the problems of files, in the order they are given. Each is Parquet, JSON lines, or one JSON list of objects. A
/// row without a prompt or an answer is an error.
pub fn read_problems(paths: &[PathBuf], columns: &Columns) -> Result<Vec<Problem>, DataError> {
    let mut problems = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        problems.extend(match Input::open(path)? {
            Input::Parquet(file) => parquet::read(file, columns, &name)?,
            Input::Json(input) => json::read(input, columns, &name)?,
        });
    }
    Ok(problems)
}

/// Reads the problems of a Parquet file in memory; errors call it `name`.
pub fn read_parquet_bytes(bytes: &[u8], columns: &Columns, name: &str) -> Result<Vec<Problem>, DataError> {
    parquet::read(in_memory(bytes), columns, name)
}

/// Reads the problems of a JSON file in memory, lines of objects or one list of them; errors call it `name`.
pub fn read_jsonl_bytes(bytes: &[u8], columns: &Columns, name: &str) -> Result<Vec<Problem>, DataError> {
    json::read(bytes, columns, name)
}

/// Describes a file: its format, its number of rows and its columns.
pub fn describe(path: &Path) -> Result<Description, DataError> {
    let name = path.display().to_string();
    match Input::open(path)? {
        Input::Parquet(file) => parquet::describe(file, &name),
        Input::Json(input) => json::describe(input, &name),
    }
}

/// Describes a Parquet file in memory; errors call it `name`.
pub fn describe_parquet_bytes(bytes: &[u8], name: &str) -> Result<Description, DataError> {
    parquet::describe(in_memory(bytes), name)
}

/// Describes a JSON file in memory; errors call it `name`.
pub fn describe_jsonl_bytes(bytes: &[u8], name: &str) -> Result<Description, DataError> {
    json::describe(bytes, name)
}

/// A file of a known format.
enum Input {
    Parquet(File),
    Json(BufReader<File>),
}

impl Input {
    /// Opens a file. Its format is determined by its first bytes, or else by its name.
    fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::Io { path: path.to_owned(), source };
        let mut input = BufReader::new(File::open(path).map_err(failed)?);
        let start = input.fill_buf().map_err(failed)?;
        text::check_start(start, &path.display().to_string())?;
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if start.starts_with(MAGIC) || ending == "parquet" {
            return Ok(Self::Parquet(input.into_inner()));
        }
        let text = text::without_bom(start).trim_ascii_start();
        match (ending.as_str(), text.first()) {
            ("jsonl" | "json" | "ndjson", _) | (_, Some(b'{' | b'[')) => Ok(Self::Json(input)),
            _ => Err(DataError::Format { file: path.display().to_string() }),
        }
    }
}
