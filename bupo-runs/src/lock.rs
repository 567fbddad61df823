//! The lock of a run folder: one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;
use std::{process, thread};

use crate::RunsError;

const NAME: &str = ".lock";

/// The lock of a run folder, held until it is dropped or the process ends, also by a kill.
#[derive(Debug)]
pub struct RunLock {
    /// The lock belongs to the open file. The file is never deleted: two processes could otherwise each lock a file.
    _file: File,
}

impl RunLock {
    /// Locks the folder for this process.
    ///
    /// # Errors
    /// [`RunsError::Locked`] if another process holds the lock, [`RunsError::Io`] if its file `.lock` cannot be created.
    pub fn acquire(folder: &Path) -> Result<Self, RunsError> {
        let path = folder.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(RunsError::io("create", &path))?;
        if !lock(&file).map_err(RunsError::io("lock", &path))? {
            return Err(RunsError::Locked { folder: folder.to_path_buf(), pid: read_pid(&mut file) });
        }
        // The process id is only for the error message of another process, so a full disk does not matter.
        let _ = write_pid(&mut file);
        Ok(Self { _file: file })
    }
}

/// Whether a process holds the lock of the folder. If that cannot be determined, it counts as locked.
pub fn is_locked(folder: &Path) -> bool {
    match File::open(folder.join(NAME)) {
        // A shared lock, so that two concurrent calls do not see each other's lock.
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Tries to take the lock; false if another process holds it. Retries for 200 ms, because `is_locked` holds it for an
/// instant.
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..10 {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_locked(folder.path()));
        let first = RunLock::acquire(folder.path()).unwrap();
        assert!(is_locked(folder.path()));
        let error = RunLock::acquire(folder.path()).unwrap_err();
        assert!(matches!(&error, RunsError::Locked { pid, .. } if *pid == Some(process::id())), "{error}");
        let (path, pid) = (folder.path().display(), process::id());
        assert_eq!(error.to_string(), format!("{path} is in use by process {pid}; wait until it ends or stop it"));
        drop(first);
        assert!(!is_locked(folder.path()));
        RunLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn acquire_waits_for_a_concurrent_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunLock::acquire(folder.path()).unwrap());
        let shared = File::open(folder.path().join(NAME)).unwrap();
        shared.try_lock_shared().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(50));
                drop(shared);
            });
            RunLock::acquire(folder.path()).unwrap();
        });
    }

    #[test]
    fn a_missing_folder_is_not_locked_and_cannot_be() {
        let missing = Path::new("/no/such/run");
        assert!(!is_locked(missing));
        assert!(matches!(RunLock::acquire(missing), Err(RunsError::Io { .. })));
    }
}
