//! Writes to a full disk, a small tmpfs. The tests are skipped where tmpfs cannot be mounted.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bupo_runs::{CheckpointStore, EventWriter, JsonLinesWriter, RunLock, RunState, RunsError, write_atomically};
use serde_json::{Value, json};
use tempfile::TempDir;

struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: tmpfs cannot be mounted here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk except for `bytes`, in whole pages.
    fn fill_except(&self, bytes: usize) {
        self.free();
        let mut file = fs::File::create(self.path().join("filler")).unwrap();
        let length = std::iter::from_fn(|| file.write(&[0; 4096]).ok()).sum::<usize>();
        file.set_len((length - bytes) as u64).unwrap();
    }

    fn free(&self) {
        let _ = fs::remove_file(self.path().join("filler"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.path()).status().unwrap();
    }
}

/// Retries while the disk is full: tmpfs frees the space of a deleted file with a delay.
fn retry<T>(mut attempt: impl FnMut() -> Result<T, RunsError>) -> T {
    for _ in 0..100 {
        match attempt() {
            Err(RunsError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other.unwrap(),
        }
    }
    attempt().unwrap()
}

fn assert_is_full(error: &RunsError) {
    assert!(matches!(error, RunsError::Io { source, .. } if source.kind() == ErrorKind::StorageFull), "{error}");
    let message = error.to_string();
    assert!(message.starts_with("cannot ") && message.contains("No space left on device"), "{message}");
    assert!(!message.contains('\n'), "{message}");
    println!("{message}");
}

#[test]
fn a_failed_checkpoint_leaves_the_others() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = CheckpointStore::new(disk.path());
    let commit = |step: usize| {
        let pending = store.begin(step)?;
        let path = pending.path().join("weights.bin");
        let written = fs::write(&path, vec![1; 50_000]);
        written.map_err(|source| RunsError::Io { action: "write", path, source })?;
        pending.commit("0.1.0", json!({ "text": "m".repeat(20_000) }))
    };
    commit(1).unwrap();
    let names = || fs::read_dir(disk.path().join("checkpoints")).unwrap().count();
    // Too little for the folder, for the weights, for the manifest; then for a checkpoint that replaces another.
    for (step, free) in [(2, 0), (2, 8 << 10), (2, 32 << 10), (2, 60 << 10), (1, 60 << 10)] {
        disk.fill_except(free);
        assert_is_full(&commit(step).unwrap_err());
        let newest = store.newest().unwrap();
        assert_eq!(newest.checkpoint.unwrap().manifest.step, 1, "{free} bytes free");
        assert!(newest.skipped_damaged.is_empty());
        assert_eq!(names(), 1, "the pending folder is deleted");
    }
    disk.fill_except(0);
    store.clean().unwrap();
    disk.free();
    retry(|| commit(2));
    assert_eq!(store.newest().unwrap().checkpoint.unwrap().manifest.step, 2);
    disk.fill_except(0);
    assert_eq!(store.prune(1, None, &[]).unwrap(), [1], "prune works on a full disk");
}

#[test]
fn a_failed_append_leaves_no_partial_line() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("metrics.jsonl");
    let mut lines = JsonLinesWriter::create(&path).unwrap();
    let line = json!({ "step": 1, "text": "x".repeat(3000) });
    let mut written = 0;
    let error = loop {
        match lines.append(&line) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_is_full(&error);
    let read = || -> Vec<Value> {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(written > 100);
    assert_eq!(read(), vec![line.clone(); written]);
    // A part of the failed line fitted and was cut off again: otherwise the length would be a multiple of the page size.
    assert!(!fs::metadata(&path).unwrap().len().is_multiple_of(4096));

    lines.append(&json!(1)).unwrap();
    assert_eq!(read().len(), written + 1, "a shorter line still fits");
    JsonLinesWriter::resume(&path, |line| *line != json!(1)).unwrap();
    assert_eq!(read().len(), written);
}

#[test]
fn a_failed_save_leaves_the_state_before() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut state = RunState::running(10);
    state.save(disk.path()).unwrap();
    let before = state.clone();
    disk.fill_except(0);
    state.step = 5;
    assert_is_full(&state.save(disk.path()).unwrap_err());
    assert_eq!(RunState::read(disk.path()).unwrap(), before);
    let names: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let new = disk.path().join("new");
    assert_is_full(&write_atomically(&new, b"bytes").unwrap_err());
    assert!(!new.exists());

    let lock = RunLock::acquire(disk.path()).unwrap();
    assert!(matches!(RunLock::acquire(disk.path()), Err(RunsError::Locked { pid: None, .. })));
    drop(lock);
}

#[test]
fn a_failed_flush_keeps_the_scalars_for_the_next() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.path().join("tensorboard");
    let mut writer = EventWriter::create(&folder).unwrap();
    let start = fs::read(writer.path()).unwrap();
    disk.fill_except(0);
    for step in 1..=200 {
        writer.scalar("reward/mean", step, 0.5);
    }
    // Some of them fit into the first page of the file.
    assert_is_full(&writer.flush().unwrap_err());
    assert_eq!(fs::read(writer.path()).unwrap(), start);
    disk.free();
    retry(|| writer.flush());
    let all = fs::read(writer.path()).unwrap();
    assert!(all.starts_with(&start));
    let tags = all.windows(11).filter(|bytes| bytes == b"reward/mean").count();
    assert_eq!(tags, 200);
    drop(writer);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
