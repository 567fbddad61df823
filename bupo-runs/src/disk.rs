//! Writing so that what is there is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::RunsError;

/// Writes a file so that, whatever happens, its path holds either all of what was there or all of `bytes`.
///
/// The bytes go to a hidden file beside it, which takes its name once they are on the disk.
///
/// # Errors
/// If something cannot be written; the file is then as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RunsError> {
    let temporary = temporary_name(path);
    let written = write_new(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(RunsError::io("write", path))
        .and_then(|()| sync_folder(parent(path)));
    if written.is_err() {
        // Gone already if only the folder could not be synced; what is left otherwise is hidden and small.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a file that must not exist, down to the disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Appends all of `bytes`, or nothing: a disk that fills up half-way would leave half of them.
pub(crate) fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // The error that is told is the first one.
        let _ = file.set_len(before);
    })
}

/// A file's contents as JSON for people to read.
pub(crate) fn json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, RunsError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| RunsError::io("write", path)(error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Puts a folder's entries on the disk: new names and renames are not there before that.
pub(crate) fn sync_folder(path: &Path) -> Result<(), RunsError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(RunsError::io("write", path))
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The folder that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden name beside `path` that no other thread or live process writes to.
fn temporary_name(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A process number comes back after a restart, and with it the name of what an earlier process left.
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}-{count}", process::id()));
        if !temporary.exists() {
            return temporary;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_replaces_without_leaving_anything_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        // A folder that holds something cannot be replaced by a file.
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("inside")).unwrap();
        let error = write_atomically(&path, b"bytes").unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.contains("taken"), "{error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_path_without_a_folder_is_beside_the_program() {
        assert_eq!(parent(Path::new("state.json")), Path::new("."));
        assert_eq!(parent(Path::new("runs/state.json")), Path::new("runs"));
    }

    #[test]
    fn what_cannot_be_appended_whole_is_not_appended() {
        // /dev/full takes no byte; its length cannot be cut either, and the first error is the one told.
        let Ok(mut full) = OpenOptions::new().append(true).open("/dev/full") else { return };
        assert_eq!(append_whole(&mut full, b"line\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
