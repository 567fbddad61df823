//! Logs of JSON objects, one a line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::RunsError;
use crate::disk::append_whole;

/// A file of JSON objects, one a line, each written whole.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Makes the file, which must not exist.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(path: &Path) -> Result<Self, RunsError> {
        let file =
            OpenOptions::new().create_new(true).append(true).open(path).map_err(RunsError::io("create", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Opens a file of whole lines to append to.
    ///
    /// # Errors
    /// If it is missing or cannot be written, or its last line is not whole, which [`JsonLines::resume`] mends.
    pub fn open(path: &Path) -> Result<Self, RunsError> {
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(RunsError::io("open", path))?;
        if last_byte(&mut file).map_err(RunsError::io("read", path))?.is_some_and(|byte| byte != b'\n') {
            return Err(RunsError::HalfLine(path.to_path_buf()));
        }
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Opens a file to go on from an earlier point: keeps the lines before the first that `keep` refuses.
    ///
    /// That line and all after it are cut off, and so is a last line that a killed process or a failing machine left
    /// unfinished.
    ///
    /// # Errors
    /// If the file is missing or cannot be written, or a line that is to be kept is not JSON and others follow it;
    /// then nothing is cut.
    pub fn resume(path: &Path, keep: impl FnMut(&Value) -> bool) -> Result<Self, RunsError> {
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(RunsError::io("open", path))?;
        let end = end_of_kept(path, &file, keep)?;
        file.set_len(end).and_then(|()| file.sync_all()).map_err(RunsError::io("write", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends one line; it is in the file whole, or not at all and an error is told.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), RunsError> {
        let mut line = serde_json::to_vec(value).map_err(|error| RunsError::io("write", &self.path)(error.into()))?;
        line.push(b'\n');
        append_whole(&mut self.file, &line).map_err(RunsError::io("write", &self.path))
    }

    /// Puts the lines on the disk, so that not even a failing machine loses them.
    ///
    /// # Errors
    /// If the system says that they could not be written.
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

/// Where the last line to keep ends.
fn end_of_kept(path: &Path, file: &File, mut keep: impl FnMut(&Value) -> bool) -> Result<u64, RunsError> {
    let mut reader = BufReader::new(file);
    let (mut end, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(RunsError::io("read", path))?;
        // Nothing more, or half a line.
        if line.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(value) if keep(&value) => end += line.len() as u64,
            Ok(_) => break,
            // A machine that fails may leave zeros in its last line; anywhere else somebody broke the file.
            Err(_) if reader.fill_buf().map_err(RunsError::io("read", path))?.is_empty() => break,
            Err(error) => {
                return Err(RunsError::Line { path: path.to_path_buf(), line: number, reason: error.to_string() });
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
        let resumed = JsonLines::resume(&path, |line| line["step"].as_u64().unwrap() <= last_step);
        let after = fs::read(&path).unwrap();
        match resumed {
            Ok(mut lines) => {
                lines.append(&json!({ "step": "next" })).unwrap();
                let text = fs::read_to_string(&path).unwrap();
                Ok(text.strip_suffix("{\"step\":\"next\"}\n").unwrap().to_owned())
            }
            Err(error) => {
                assert_eq!(after, text, "an error must not cut anything");
                Err(error)
            }
        }
    }

    #[test]
    fn resume_cuts_half_a_line_and_later_steps() {
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
    fn resume_cuts_everything_from_the_first_line_refused() {
        assert_eq!(resumed(b"{\"step\":1}\n{\"step\":5}\n{\"step\":2}\nnonsense\n", 3).unwrap(), "{\"step\":1}\n");
    }

    #[test]
    fn resume_names_a_malformed_line_in_the_middle() {
        let error = resumed(b"{\"step\":1}\n{\"step\":\n{\"step\":3}\n", 9).unwrap_err();
        assert!(matches!(&error, RunsError::Line { line: 2, .. }), "{error}");
        assert!(error.to_string().contains("metrics.jsonl line 2 is not JSON"), "{error}");
        let error = resumed(b"\n{\"step\":1}\n", 9).unwrap_err();
        assert!(matches!(&error, RunsError::Line { line: 1, .. }), "{error}");
        let error = resumed(b"{\"step\":1}\n\xff\n{\"step\":3}\n", 9).unwrap_err();
        assert!(matches!(&error, RunsError::Line { line: 2, .. }), "{error}");
    }

    #[test]
    fn resume_cuts_a_last_line_that_a_failing_machine_left_as_zeros() {
        assert_eq!(resumed(b"{\"step\":1}\n\0\0\0\0\0\n", 9).unwrap(), "{\"step\":1}\n");
        assert_eq!(resumed(b"{\"step\":1}\n\0\0\0\0\0", 9).unwrap(), "{\"step\":1}\n");
    }

    #[test]
    fn create_refuses_what_exists_and_open_what_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert!(JsonLines::open(&path).is_err());
        assert!(JsonLines::resume(&path, |_| true).is_err());
        JsonLines::create(&path).unwrap().append(&json!({ "text": "two\nlines" })).unwrap();
        assert!(JsonLines::create(&path).is_err());
        JsonLines::open(&path).unwrap().append(&json!(2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"text\":\"two\\nlines\"}\n2\n");
    }

    #[test]
    fn open_refuses_half_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"st").unwrap();
        assert!(matches!(JsonLines::open(&path), Err(RunsError::HalfLine(_))));
    }
}
