//! Helpers for writing files durably.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::RunsError;

/// Creates a file that must not exist, writes it and syncs it.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Appends all of `bytes`, or nothing if an error is returned: a part that fits on a full disk is cut off again.
pub(crate) fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // The error of the write is returned, not one of the cut.
        let _ = file.set_len(before);
    })
}

/// A value as indented JSON with a final line end, for the file at `path`.
pub(crate) fn json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, RunsError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| RunsError::io("write", path)(error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Syncs a folder: only then do new and renamed entries survive a crash of the machine.
///
/// # Errors
/// If it cannot be opened or synced; not where a network file system cannot sync folders.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some network file systems cannot sync folders; that is no failure of the write.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The folder that contains a path; `.` for a bare file name.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_a_bare_file_name_is_the_current_folder() {
        assert_eq!(parent(Path::new("state.json")), Path::new("."));
        assert_eq!(parent(Path::new("runs/state.json")), Path::new("runs"));
    }

    #[test]
    fn a_failed_append_returns_the_error_of_the_write() {
        // /dev/full accepts no byte, and its length cannot be set either.
        let Ok(mut full) = OpenOptions::new().append(true).open("/dev/full") else { return };
        assert_eq!(append_whole(&mut full, b"line\n").unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
