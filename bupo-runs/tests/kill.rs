//! A training process that is killed at random moments, repeatedly, in one run folder.

#![allow(clippy::unwrap_used)]

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bupo_runs::{CheckpointStore, JsonLinesWriter, RunLock, RunState, RunStatus, RunsError, find_runs, is_locked};
use serde_json::{Value, json};

// Environment variables that select the work of the child process; the value is the run folder.
const TRAIN: &str = "BUPO_RUNS_TEST_TRAIN";
const DELETE: &str = "BUPO_RUNS_TEST_DELETE";

#[test]
fn a_run_survives_ten_kills() {
    survives(10);
}

#[test]
#[ignore = "takes a minute"]
fn a_run_survives_two_hundred_kills() {
    survives(200);
}

fn survives(kills: usize) {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    fs::create_dir(&run).unwrap();
    let (mut kill, mut reached, mut interrupted, mut leftovers) = (0, 0, 0, 0);
    // More kills on a slow machine, until a child has committed a checkpoint and one has saved its state.
    while kill < kills || reached == 0 || interrupted == 0 {
        kill += 1;
        assert!(kill < 20 * kills, "the child is killed too early: {reached} steps, {interrupted} seen as interrupted");
        let committed = killed_after(&run, random_moment()).max(reached);
        interrupted +=
            usize::from(find_runs(root.path()).unwrap().iter().any(|run| run.status == RunStatus::Interrupted));
        leftovers += hidden(&run.join("checkpoints"));
        reached = check(&run, committed);
        println!("kill {kill}: {committed} steps were committed, {reached} survived");
    }
    println!("{interrupted} seen as interrupted, {leftovers} folders left behind");
}

#[test]
fn a_kill_while_deleting_leaves_no_half_checkpoint() {
    let (mut kills, mut caught) = (0, 0);
    while caught < 3 {
        kills += 1;
        assert!(kills < 100, "no kill hit the deletion");
        let root = tempfile::tempdir().unwrap();
        let mut child = start(root.path(), DELETE);
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        lines.find(|line| line.as_ref().unwrap().contains("deleting"));
        thread::sleep(random_moment() / 15);
        child.kill().unwrap();
        child.wait().unwrap();
        caught += usize::from(hidden(&root.path().join("checkpoints")) > 0);
        assert_eq!(check(root.path(), 2), 2);
    }
    println!("{caught} of {kills} kills hit the deletion");
}

#[test]
fn a_running_process_locks_out_others() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    fs::create_dir(&run).unwrap();
    let mut child = start(&run, TRAIN);
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    // The state was saved after step 2, before this line of step 3.
    lines.find(|line| line.as_ref().unwrap().contains("committed 3."));
    let status = || find_runs(root.path()).unwrap().remove(0).status;
    let (locked, alive, refused) = (is_locked(&run), status(), RunLock::acquire(&run));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(locked);
    assert_eq!(alive, RunStatus::Running);
    assert!(matches!(refused, Err(RunsError::Locked { pid, .. }) if pid == Some(child.id())), "{refused:?}");
    assert_eq!(status(), RunStatus::Interrupted);
    RunLock::acquire(&run).unwrap();
}

/// Starts a child in the folder, kills it after `moment` and returns the last step that it printed as committed.
fn killed_after(run: &Path, moment: Duration) -> usize {
    let mut child = start(run, TRAIN);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Read concurrently, so that a full pipe does not block the child. A partial last line is ignored.
    let reading = thread::spawn(move || {
        let committed = |line: String| line.rsplit_once("committed ")?.1.strip_suffix('.')?.parse().ok();
        lines.map_while(Result::ok).filter_map(committed).last().unwrap_or(0)
    });
    thread::sleep(moment);
    assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

fn start(run: &Path, work: &str) -> Child {
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["child", "--exact", "--nocapture"]).env(work, run).stdout(Stdio::piped()).spawn().unwrap()
}

/// A random time up to 300 ms.
fn random_moment() -> Duration {
    Duration::from_micros(RandomState::new().hash_one(0) % 300_000)
}

/// Recovers and checks the folder of a killed process as the next process would; returns the step to resume from.
fn check(run: &Path, committed: usize) -> usize {
    assert!(!is_locked(run));
    let _lock = RunLock::acquire(run).unwrap();
    if run.join("state.json").exists() {
        RunState::read(run).unwrap();
    }
    let store = CheckpointStore::new(run);
    store.clean().unwrap();
    assert_eq!(hidden(&run.join("checkpoints")), 0);
    let newest = store.newest().unwrap();
    assert!(newest.skipped_damaged.is_empty(), "{:?}", newest.skipped_damaged);
    for step in store.list().unwrap() {
        store.verify(step).unwrap();
    }
    let step = newest.checkpoint.map_or(0, |checkpoint| {
        assert_eq!(checkpoint.manifest.meta["step"], checkpoint.manifest.step);
        checkpoint.manifest.step
    });
    assert!(step >= committed, "step {committed} was committed, and step {step} is the newest");
    let path = run.join("metrics.jsonl");
    if path.exists() {
        JsonLinesWriter::resume(&path, |line| is_up_to(line, step)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected: Vec<_> = (1..=step).flat_map(lines_of).collect();
        assert_eq!(lines, expected);
    }
    step
}

fn hidden(checkpoints: &Path) -> usize {
    let entries = fs::read_dir(checkpoints).into_iter().flatten();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
}

fn lines_of(step: usize) -> [Value; 2] {
    [json!({ "step": step, "text": "x".repeat(step * 997 % 5000) }), json!({ "step": step, "second": true })]
}

fn is_up_to(line: &Value, last_step: usize) -> bool {
    line["step"].as_u64().unwrap() <= last_step as u64
}

/// The body of the child process; as a test of its own it does nothing.
#[test]
fn child() {
    if let Some(run) = env::var_os(TRAIN) {
        train(Path::new(&run));
    } else if let Some(run) = env::var_os(DELETE) {
        delete(Path::new(&run));
    }
}

fn train(run: &Path) {
    let _lock = RunLock::acquire(run).unwrap();
    let store = CheckpointStore::new(run);
    store.clean().unwrap();
    let done = store.newest().unwrap().checkpoint.map_or(0, |checkpoint| checkpoint.manifest.step);
    let path = run.join("metrics.jsonl");
    let mut metrics = match path.exists() {
        true => JsonLinesWriter::resume(&path, |line| is_up_to(line, done)).unwrap(),
        false => JsonLinesWriter::create(&path).unwrap(),
    };
    let mut state = RunState::running(usize::MAX);
    for step in done + 1.. {
        for line in lines_of(step) {
            metrics.append(&line).unwrap();
        }
        metrics.sync().unwrap();
        // At odd steps twice: the second checkpoint replaces the first.
        for attempt in 0..1 + step % 2 {
            let pending = store.begin(step).unwrap();
            fs::create_dir(pending.path().join("optimizer")).unwrap();
            fs::write(pending.path().join("weights.bin"), vec![step as u8; step * 7919 % 100_000]).unwrap();
            fs::write(pending.path().join("optimizer/moments.bin"), vec![attempt as u8; 5000]).unwrap();
            pending.commit("0.1.0", json!({ "step": step, "attempt": attempt })).unwrap();
            println!("committed {step}.");
        }
        store.prune(2, Some(50), &[]).unwrap();
        state.step = step;
        state.save(run).unwrap();
    }
}

/// Replaces one checkpoint with very many files and prunes another, so that a kill can hit the deletion.
fn delete(run: &Path) {
    let store = CheckpointStore::new(run);
    let write = |step: usize, files: usize| {
        let pending = store.begin(step).unwrap();
        let file = |number: usize| pending.path().join(number.to_string());
        fs::write(file(0), "bytes").unwrap();
        // Hard links are quick to create and sync, but slow to delete.
        for number in 1..files {
            fs::hard_link(file(0), file(number)).unwrap();
        }
        pending
    };
    let meta = |step: usize| json!({ "step": step });
    for step in [1, 2] {
        write(step, 1000).commit("0.1.0", meta(step)).unwrap();
    }
    let replacement = write(2, 1);
    println!("deleting");
    replacement.commit("0.1.0", meta(2)).unwrap();
    store.prune(1, None, &[]).unwrap();
    // Waits to be killed.
    thread::park();
}
