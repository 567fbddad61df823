//! A disk that fills up: a small one in memory, where the system lets a test make one.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bupo_runs::{CheckpointStore, EventWriter, JsonLines, RunLock, RunState, RunsError};
use serde_json::{Value, json};
use tempfile::TempDir;

struct SmallDisk(TempDir);

impl SmallDisk {
    fn make() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: no small disk can be made here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves `bytes` free, in whole pages.
    fn fill_but(&self, bytes: usize) {
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

/// A disk in memory has the room of a file that is gone a moment later.
fn soon<T>(mut attempt: impl FnMut() -> Result<T, RunsError>) -> T {
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

fn assert_says_full(error: &RunsError) {
    assert!(matches!(error, RunsError::Io { source, .. } if source.kind() == ErrorKind::StorageFull), "{error}");
    let sentence = error.to_string();
    assert!(sentence.starts_with("cannot ") && sentence.contains("No space left on device"), "{sentence}");
    assert!(!sentence.contains('\n'), "{sentence}");
    println!("{sentence}");
}

#[test]
fn a_checkpoint_that_does_not_fit_leaves_the_others() {
    let Some(disk) = SmallDisk::make() else { return };
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
    // Too little for the folder, for the weights, for the manifest behind them; then for the one that replaces.
    for (step, free) in [(2, 0), (2, 8 << 10), (2, 32 << 10), (2, 60 << 10), (1, 60 << 10)] {
        disk.fill_but(free);
        assert_says_full(&commit(step).unwrap_err());
        let newest = store.newest().unwrap();
        assert_eq!(newest.checkpoint.unwrap().manifest.step, 1, "{free} bytes free");
        assert!(newest.passed_over.is_empty());
        assert_eq!(names(), 1, "what was begun is gone");
    }
    disk.fill_but(0);
    store.clean().unwrap();
    disk.free();
    soon(|| commit(2));
    assert_eq!(store.newest().unwrap().checkpoint.unwrap().manifest.step, 2);
    disk.fill_but(0);
    assert_eq!(store.prune(1, None, &[]).unwrap(), [1], "room can be made on a full disk");
}

#[test]
fn a_line_that_does_not_fit_leaves_no_half() {
    let Some(disk) = SmallDisk::make() else { return };
    let path = disk.path().join("metrics.jsonl");
    let mut lines = JsonLines::create(&path).unwrap();
    let line = json!({ "step": 1, "text": "x".repeat(3000) });
    let mut written = 0;
    let error = loop {
        match lines.append(&line) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_says_full(&error);
    let read = || -> Vec<Value> {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(written > 100);
    assert_eq!(read(), vec![line.clone(); written]);
    // Half of a line had fitted, or cutting it back would not have been tried.
    assert!(!fs::metadata(&path).unwrap().len().is_multiple_of(4096));

    lines.append(&json!(1)).unwrap();
    assert_eq!(read().len(), written + 1, "a shorter line still fits");
    JsonLines::resume(&path, |line| *line != json!(1)).unwrap();
    assert_eq!(read().len(), written);
}

#[test]
fn a_state_that_does_not_fit_leaves_the_one_before() {
    let Some(disk) = SmallDisk::make() else { return };
    let mut state = RunState::running(10);
    state.save(disk.path()).unwrap();
    let before = state.clone();
    disk.fill_but(0);
    state.step = 5;
    assert_says_full(&state.save(disk.path()).unwrap_err());
    assert_eq!(RunState::read(disk.path()).unwrap(), before);
    let names: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    let lock = RunLock::acquire(disk.path()).unwrap();
    assert!(matches!(RunLock::acquire(disk.path()), Err(RunsError::Busy { pid: None, .. })));
    drop(lock);
}

#[test]
fn scalars_that_do_not_fit_wait_for_the_next_flush() {
    let Some(disk) = SmallDisk::make() else { return };
    let folder = disk.path().join("tensorboard");
    let mut writer = EventWriter::create(&folder).unwrap();
    let start = fs::read(writer.path()).unwrap();
    disk.fill_but(0);
    for step in 1..=200 {
        writer.scalar("reward/mean", step, 0.5);
    }
    // The file's first page has room for some of them.
    assert_says_full(&writer.flush().unwrap_err());
    assert_eq!(fs::read(writer.path()).unwrap(), start);
    disk.free();
    soon(|| writer.flush());
    let all = fs::read(writer.path()).unwrap();
    assert!(all.starts_with(&start));
    let tags = all.windows(11).filter(|bytes| bytes == b"reward/mean").count();
    assert_eq!(tags, 200);
    drop(writer);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
