//! Append-only logs in the JSON-lines format.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::RunsError;
use crate::disk::append_whole;
use crate::read_json_lines::describe;

/// Appends to a JSON-lines file: one JSON value per line, each line appended completely or not at all.
#[derive(Debug)]
pub struct JsonLinesWriter {
    path: PathBuf,
    file: File,
}

impl JsonLinesWriter {
    /// Creates the file, which must not exist.
    ///
    /// # Errors
    /// If it exists or cannot be created.
    pub fn create(path: &Path) -> Result<Self, RunsError> {
        let file =
            OpenOptions::new().create_new(true).append(true).open(path).map_err(RunsError::io("create", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Opens an existing file to append to.
    ///
    /// # Errors
    /// If it is missing or cannot be written, or if its last line has no line end; [`JsonLinesWriter::resume`] removes such a
    /// line.
    pub fn open(path: &Path) -> Result<Self, RunsError> {
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(RunsError::io("open", path))?;
        if last_byte(&mut file).map_err(RunsError::io("read", path))?.is_some_and(|byte| byte != b'\n') {
            return Err(RunsError::UnfinishedLine(path.to_path_buf()));
        }
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Opens an existing file to append to, truncated before the first line for which `keep` returns false.
    ///
    /// A last line that has no line end or is not JSON is removed too: a killed process or a crash of the machine may
    /// leave one.
    ///
    /// # Errors
    /// If the file is missing or cannot be written, or if a line before the last one and before the end of those kept is
    /// not JSON. The file is then unchanged.
    pub fn resume(path: &Path, keep: impl FnMut(&Value) -> bool) -> Result<Self, RunsError> {
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(RunsError::io("open", path))?;
        let end = end_of_kept(path, &file, keep)?;
        file.set_len(end).and_then(|()| file.sync_all()).map_err(RunsError::io("write", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends a value as one line.
    ///
    /// # Errors
    /// If it cannot be written completely; the file is then unchanged.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), RunsError> {
        let mut line = serde_json::to_vec(value).map_err(|error| RunsError::io("write", &self.path)(error.into()))?;
        line.push(b'\n');
        append_whole(&mut self.file, &line).map_err(RunsError::io("write", &self.path))
    }

    /// Syncs the file, so that all lines appended so far survive a crash of the machine.
    ///
    /// # Errors
    /// If the system reports that they could not be written.
    pub fn sync(&self) -> Result<(), RunsError> {
        self.file.sync_data().map_err(RunsError::io("write", &self.path))
    }
}

fn last_byte(file: &mut File) -> std::io::Result<Option<u8>> {
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(Some(byte[0]))
}

/// The offset in bytes of the end of the last line to keep.
fn end_of_kept(path: &Path, file: &File, mut keep: impl FnMut(&Value) -> bool) -> Result<u64, RunsError> {
    let mut reader = BufReader::new(file);
    let (mut end, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(RunsError::io("read", path))?;
        // The end of the file, or an unfinished line.
        if line.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice(line.trim_ascii_end()) {
            Ok(value) if keep(&value) => end += line.len() as u64,
            Ok(_) => break,
            // A crash of the machine may leave zeros in the last line; any other invalid line is an error.
            Err(_) if reader.fill_buf().map_err(RunsError::io("read", path))?.is_empty() => break,
            Err(error) => {
                return Err(RunsError::Line { path: path.to_path_buf(), line: number, reason: describe(&error) });
            }
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn resumed(text: &[u8], last_step: u64) -> Result<String, RunsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, text).unwrap();
        let resumed = JsonLinesWriter::resume(&path, |line| line["step"].as_u64().unwrap() <= last_step);
        let after = fs::read(&path).unwrap();
        match resumed {
            Ok(mut lines) => {
                lines.append(&json!({ "step": "next" })).unwrap();
                let text = fs::read_to_string(&path).unwrap();
                Ok(text.strip_suffix("{\"step\":\"next\"}\n").unwrap().to_owned())
            }
            Err(error) => {
                assert_eq!(after, text, "an error must not truncate the file");
                Err(error)
            }
        }
    }

    #[test]
    fn resume_removes_an_unfinished_line_and_later_steps() {
        let three = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n";
        assert_eq!(resumed(three.as_bytes(), 9).unwrap(), three);
        assert_eq!(resumed(three.as_bytes(), 2).unwrap(), three[..22]);
        assert_eq!(resumed(three.as_bytes(), 0).unwrap(), "");
        assert_eq!(resumed(b"", 9).unwrap(), "");
        for cut in 23..33 {
            assert_eq!(resumed(&three.as_bytes()[..cut], 9).unwrap(), three[..22], "{cut} bytes");
        }
    }

    #[test]
    fn resume_truncates_at_the_first_line_not_kept() {
        assert_eq!(resumed(b"{\"step\":1}\n{\"step\":5}\n{\"step\":2}\nnonsense\n", 3).unwrap(), "{\"step\":1}\n");
    }

    #[test]
    fn resume_reports_an_invalid_line_before_the_last() {
        let error = resumed(b"{\"step\":1}\n{\"step\":\n{\"step\":3}\n", 9).unwrap_err();
        assert!(matches!(&error, RunsError::Line { line: 2, .. }), "{error}");
        assert!(error.to_string().contains("metrics.jsonl line 2: EOF while parsing a value at column 8;"), "{error}");
        let error = resumed(b"\n{\"step\":1}\n", 9).unwrap_err();
        assert!(matches!(&error, RunsError::Line { line: 1, .. }), "{error}");
        let error = resumed(b"{\"step\":1}\n\xff\n{\"step\":3}\n", 9).unwrap_err();
        assert!(matches!(&error, RunsError::Line { line: 2, .. }), "{error}");
    }

    #[test]
    fn resume_removes_a_last_line_of_zeros() {
        assert_eq!(resumed(b"{\"step\":1}\n\0\0\0\0\0\n", 9).unwrap(), "{\"step\":1}\n");
        assert_eq!(resumed(b"{\"step\":1}\n\0\0\0\0\0", 9).unwrap(), "{\"step\":1}\n");
    }

    #[test]
    fn create_needs_a_new_file_and_open_an_existing_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert!(JsonLinesWriter::open(&path).is_err());
        assert!(JsonLinesWriter::resume(&path, |_| true).is_err());
        JsonLinesWriter::create(&path).unwrap().append(&json!({ "text": "two\nlines" })).unwrap();
        assert!(JsonLinesWriter::create(&path).is_err());
        JsonLinesWriter::open(&path).unwrap().append(&json!(2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"text\":\"two\\nlines\"}\n2\n");
    }

    #[test]
    fn open_refuses_an_unfinished_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"st").unwrap();
        assert!(matches!(JsonLinesWriter::open(&path), Err(RunsError::UnfinishedLine(_))));
    }
}
