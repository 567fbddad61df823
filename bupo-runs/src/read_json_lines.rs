//! The reader of JSON-lines files.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::RunsError;

/// The lines that [`read_json_lines`] skips. By default all are errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonLinesOptions {
    /// Skips lines that are empty or only whitespace; otherwise they are an error.
    pub skip_empty_lines: bool,
    /// Skips a last line that has no line end and is not valid, as a killed process leaves it in a log; otherwise it is
    /// an error.
    pub skip_unfinished_line: bool,
}

/// A value with its place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLine<T> {
    /// The line number, from 1. Skipped lines are counted.
    pub number: usize,
    /// The value in the line.
    pub value: T,
}

/// Reads a file with one JSON value of type `T` per line. A UTF-8 byte order mark at the beginning is skipped; the last
/// line needs no line end.
///
/// # Errors
/// [`RunsError::Io`] if the file cannot be read; [`RunsError::Line`] for the first line that is not a `T`, is not UTF-8,
/// or is empty or unfinished and not skipped by `options`.
pub fn read_json_lines<T: DeserializeOwned>(
    path: &Path,
    options: JsonLinesOptions,
) -> Result<Vec<JsonLine<T>>, RunsError> {
    let mut reader = BufReader::new(File::open(path).map_err(RunsError::io("read", path))?);
    let (mut lines, mut buffer) = (Vec::new(), Vec::new());
    for number in 1.. {
        buffer.clear();
        if reader.read_until(b'\n', &mut buffer).map_err(RunsError::io("read", path))? == 0 {
            break;
        }
        let is_finished = buffer.ends_with(b"\n");
        let line = buffer.strip_prefix(BYTE_ORDER_MARK).filter(|_| number == 1).unwrap_or(&buffer).trim_ascii_end();
        let error = |reason| RunsError::Line { path: path.to_path_buf(), line: number, reason };
        if line.is_empty() {
            if options.skip_empty_lines {
                continue;
            }
            return Err(error("the line is empty".into()));
        }
        match serde_json::from_slice(line) {
            Ok(value) => lines.push(JsonLine { number, value }),
            // Without a line end this is the last line.
            Err(_) if !is_finished && options.skip_unfinished_line => {}
            Err(reason) => return Err(error(describe(&reason))),
        }
    }
    Ok(lines)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The error's message, with the column but without the line: serde_json counts lines within the text it was given, which
/// is always a single line.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    match message.strip_suffix(&position) {
        Some(message) => format!("{message} at column {}", error.column()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    const STRICT: JsonLinesOptions = JsonLinesOptions { skip_empty_lines: false, skip_unfinished_line: false };
    const LENIENT: JsonLinesOptions = JsonLinesOptions { skip_empty_lines: true, skip_unfinished_line: true };

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        step: u32,
    }

    fn read<T: DeserializeOwned>(bytes: &[u8], options: JsonLinesOptions) -> Result<Vec<(usize, T)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        fs::write(&path, bytes).unwrap();
        match read_json_lines(&path, options) {
            Ok(lines) => Ok(lines.into_iter().map(|line| (line.number, line.value)).collect()),
            Err(error @ RunsError::Line { .. }) => {
                Err(error.to_string().strip_prefix(&format!("{} ", path.display())).unwrap().to_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn steps(bytes: &[u8], options: JsonLinesOptions) -> Result<Vec<(usize, u32)>, String> {
        read(bytes, options).map(|rows| rows.into_iter().map(|(number, row): (_, Row)| (number, row.step)).collect())
    }

    #[test]
    fn values_have_line_numbers_from_1() {
        for options in [STRICT, LENIENT] {
            assert_eq!(
                steps(b"{\"step\":7}\n {\"step\":8}\r\n{\"step\":9}", options).unwrap(),
                [(1, 7), (2, 8), (3, 9)]
            );
            assert_eq!(steps(b"", options).unwrap(), []);
            assert_eq!(read::<Value>(b"[1,\t2]\nnull\n", options).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_beginning_only() {
        assert_eq!(steps(b"\xef\xbb\xbf{\"step\":7}\n", STRICT).unwrap(), [(1, 7)]);
        let error = steps(b"{\"step\":7}\n\xef\xbb\xbf{\"step\":8}\n", LENIENT).unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert_eq!(steps(b"\xef\xbb\xbf\n{\"step\":8}\n", LENIENT).unwrap(), [(2, 8)]);
    }

    #[test]
    fn empty_lines_are_skipped_or_an_error() {
        let text = b"\n{\"step\":7}\n \t\r\n{\"step\":8}\n\n";
        assert_eq!(steps(text, LENIENT).unwrap(), [(2, 7), (4, 8)]);
        assert_eq!(steps(text, STRICT).unwrap_err(), "line 1: the line is empty; correct or delete the line");
        assert!(steps(b"{\"step\":7}\n\n", STRICT).unwrap_err().starts_with("line 2: "));
    }

    #[test]
    fn an_unfinished_last_line_is_skipped_or_an_error() {
        let text = b"{\"step\":7}\n{\"step\":8}";
        for length in 12..text.len() {
            assert_eq!(steps(&text[..length], LENIENT).unwrap(), [(1, 7)], "{length} bytes");
            let error = steps(&text[..length], STRICT).unwrap_err();
            assert!(error.starts_with("line 2: EOF while parsing "), "{error}");
        }
        let error = steps(b"{\"step\":7}\n{\"st\n", LENIENT).unwrap_err();
        assert!(error.starts_with("line 2: "), "a line with a line end is finished: {error}");
    }

    #[test]
    fn errors_name_the_line_the_column_and_the_reason() {
        for (second, expected) in [
            (&b"{\"step\":}"[..], "line 2: expected value at column 9; correct or delete the line"),
            (b"{\"stop\":1}", "line 2: missing field `step` at column 10; correct or delete the line"),
            (b"{\"step\":1} {\"step\":2}", "line 2: trailing characters at column 12; correct or delete the line"),
        ] {
            let text = [b"{\"step\":7}\n", second, b"\n{\"step\":8}\n"].concat();
            assert_eq!(steps(&text, LENIENT).unwrap_err(), expected);
        }
        let error = read::<Value>(b"1\n\"\xff\"\n", LENIENT).unwrap_err();
        assert!(error.starts_with("line 2: invalid unicode"), "{error}");
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let error = read_json_lines::<Value>(Path::new("/no/such/file.jsonl"), LENIENT).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /no/such/file.jsonl: "), "{error}");
    }
}
