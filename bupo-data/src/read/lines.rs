//! The lines of a text file, of bounded length.

use std::io::{BufRead, Read};

use super::{
    limits::MAX_VALUE,
    text::{utf8, without_bom},
};
use crate::error::DataError;

/// A line that is not empty.
pub(super) struct Line<'a> {
    /// Its number, counted from 1.
    pub(super) number: usize,
    /// Its text without surrounding whitespace, or why it is not text.
    pub(super) text: Result<&'a str, String>,
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
            each(Line { number, text })?;
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
