//! One process at a time in a run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;
use std::{process, thread};

use crate::RunsError;

const NAME: &str = ".lock";

/// Holds a run folder until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    /// The lock belongs to the open file. The file itself stays: deleting it would let two processes lock two files.
    _file: File,
}

impl RunLock {
    /// Takes the folder for this process.
    ///
    /// # Errors
    /// If another process holds it, or its file cannot be made.
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
            return Err(RunsError::Busy { folder: folder.to_path_buf(), pid: read_pid(&mut file) });
        }
        // Only for the message to another process, so a full disk is no reason to refuse.
        let _ = write_pid(&mut file);
        Ok(Self { _file: file })
    }
}

/// Whether a process holds the folder. Where the system does not say, it counts as held.
pub fn is_locked(folder: &Path) -> bool {
    match File::open(folder.join(NAME)) {
        // Shared, so that two who ask at once do not take each other for a holder.
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether the lock could be taken. Who only asks holds it for an instant, which is worth waiting for.
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
    fn a_second_locker_is_refused_until_the_first_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_locked(folder.path()));
        let first = RunLock::acquire(folder.path()).unwrap();
        assert!(is_locked(folder.path()));
        let error = RunLock::acquire(folder.path()).unwrap_err();
        assert!(matches!(&error, RunsError::Busy { pid, .. } if *pid == Some(process::id())), "{error}");
        let (place, pid) = (folder.path().display(), process::id());
        assert_eq!(error.to_string(), format!("{place} is in use by process {pid}; wait for it or stop it"));
        drop(first);
        assert!(!is_locked(folder.path()));
        RunLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn asking_does_not_get_in_the_way_of_taking() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunLock::acquire(folder.path()).unwrap());
        let asking = File::open(folder.path().join(NAME)).unwrap();
        asking.try_lock_shared().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(50));
                drop(asking);
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
