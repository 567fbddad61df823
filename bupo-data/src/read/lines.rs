//! Reads JSON lines: files with a JSON value on each line.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use serde::de::DeserializeOwned;

use super::{
    limits::MAX_VALUE,
    text::{check_start, utf8, valid_json, without_bom},
};
use crate::error::DataError;

/// A value of a file of JSON lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLine<T> {
    /// The line it is on, counted from 1.
    pub number: usize,
    /// The value.
    pub value: T,
}

/// How to read a last line that does not end with a line break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLine {
    /// As any other line.
    Value,
    /// As an unfinished line, which is skipped, if it is not valid: the writer of a log may have been stopped.
    MaybeUnfinished,
}

/// Reads a file of JSON lines: UTF-8, with or without a byte order mark. Empty lines are skipped; `NaN` is read as
/// `null`, and `Infinity` as a number beyond the range of doubles, which a field of the type refuses unless it is ignored.
///
/// # Errors
///
/// If the file cannot be read, is in another encoding or is a git-lfs pointer; or, with its number, if a line has more
/// than [`MAX_VALUE`](crate::MAX_VALUE) bytes or is not a value of this type.
pub fn read_json_lines<T: DeserializeOwned>(path: &Path, last_line: LastLine) -> Result<Vec<JsonLine<T>>, DataError> {
    let file = path.display().to_string();
    let failed = |source| DataError::Io { path: path.to_owned(), source };
    let mut input = BufReader::new(File::open(path).map_err(failed)?);
    check_start(input.fill_buf().map_err(failed)?, &file)?;
    let mut values = Vec::new();
    each_line(&mut input, &file, |line| {
        let parsed = line.text.and_then(|text| serde_json::from_str(&valid_json(text)).map_err(|error| reason(&error)));
        match parsed {
            Ok(value) => values.push(JsonLine { number: line.number, value }),
            Err(_) if !line.is_whole && last_line == LastLine::MaybeUnfinished => {}
            Err(reason) => return Err(DataError::Json { file: file.clone(), line: line.number, reason }),
        }
        Ok(())
    })?;
    Ok(values)
}

/// A line that is not empty.
pub(super) struct Line<'a> {
    /// Its number, counted from 1.
    pub(super) number: usize,
    /// Its text without surrounding whitespace, or why it is not text.
    pub(super) text: Result<&'a str, String>,
    /// Whether it ends with a line break.
    pub(super) is_whole: bool,
}

/// Calls `each` with the lines of a file that are not empty.
pub(super) fn each_line(
    input: &mut impl BufRead,
    file: &str,
    mut each: impl FnMut(Line<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if read_some(input, &mut bytes, MAX_VALUE, file, |input, bytes| input.read_until(b'\n', bytes))? == 0 {
            break;
        }
        let content = if number == 1 { without_bom(&bytes) } else { &bytes };
        let text = utf8(content).map(str::trim);
        if text != Ok("") {
            each(Line { number, text, is_whole: bytes.ends_with(b"\n") })?;
        }
    }
    Ok(())
}

/// Reads into the buffer with `read`. More than `most` bytes are an error.
pub(super) fn read_some<R: BufRead>(
    input: &mut R,
    buffer: &mut Vec<u8>,
    most: usize,
    file: &str,
    read: impl FnOnce(&mut std::io::Take<&mut R>, &mut Vec<u8>) -> std::io::Result<usize>,
) -> Result<usize, DataError> {
    let length =
        read(&mut input.take(most as u64 + 1), buffer).map_err(|source| DataError::Io { path: file.into(), source })?;
    if buffer.len() > most {
        let what = format!("it has more than {most} bytes in one line or list; write a row on each line");
        return Err(DataError::TooLarge { file: file.to_owned(), what });
    }
    Ok(length)
}

/// The parser's message with the column, but without the line, which is not the file's.
pub(super) fn reason(error: &serde_json::Error) -> String {
    format!("{} (column {})", message(error), error.column())
}

/// The parser's message without a place.
pub(super) fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned()
}
