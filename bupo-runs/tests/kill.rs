//! A training process that is killed at any moment, again and again, in one run folder.

#![allow(clippy::unwrap_used)]

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bupo_runs::{CheckpointStore, JsonLines, RunLock, RunState, RunStatus, RunsError, find_runs, is_locked};
use serde_json::{Value, json};

// What the child does, and where.
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
    // A slow machine may need more, until a child has lived long enough to commit something and to say that it runs.
    while kill < kills || reached == 0 || interrupted == 0 {
        kill += 1;
        assert!(kill < 20 * kills, "the child never gets far: {reached} steps, {interrupted} seen as interrupted");
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
        assert!(kills < 100, "the child deletes too fast to be killed meanwhile");
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
    println!("{caught} of {kills} were killed while they deleted");
}

#[test]
fn a_living_process_keeps_others_out() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    fs::create_dir(&run).unwrap();
    let mut child = start(&run, TRAIN);
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    // It saves its state between its second step's line and its third's.
    lines.find(|line| line.as_ref().unwrap().contains("committed 3."));
    let status = || find_runs(root.path()).unwrap().remove(0).status;
    let (locked, alive, refused) = (is_locked(&run), status(), RunLock::acquire(&run));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(locked);
    assert_eq!(alive, RunStatus::Running);
    assert!(matches!(refused, Err(RunsError::Busy { pid, .. }) if pid == Some(child.id())), "{refused:?}");
    assert_eq!(status(), RunStatus::Interrupted);
    RunLock::acquire(&run).unwrap();
}

/// Starts a child in the folder, kills it after a while and returns the last step that it said was committed.
fn killed_after(run: &Path, moment: Duration) -> usize {
    let mut child = start(run, TRAIN);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Read while it runs, so that it never waits for a full pipe. Half a line, at the end, says nothing.
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

/// A moment to kill at, another one in each run of the test.
fn random_moment() -> Duration {
    Duration::from_micros(RandomState::new().hash_one(0) % 300_000)
}

/// Looks at what a killed process left as the next one would, and returns the step to go on from.
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
    assert!(newest.passed_over.is_empty(), "{:?}", newest.passed_over);
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
        JsonLines::resume(&path, |line| is_of(line, step)).unwrap();
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

fn is_of(line: &Value, last_step: usize) -> bool {
    line["step"].as_u64().unwrap() <= last_step as u64
}

/// The process that is killed: this test, started again with a run folder to work in.
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
        true => JsonLines::resume(&path, |line| is_of(line, done)).unwrap(),
        false => JsonLines::create(&path).unwrap(),
    };
    let mut state = RunState::running(usize::MAX);
    for step in done + 1.. {
        for line in lines_of(step) {
            metrics.append(&line).unwrap();
        }
        metrics.sync().unwrap();
        // The second replaces the first.
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

/// Replaces one checkpoint that takes long to delete and prunes another.
fn delete(run: &Path) {
    let store = CheckpointStore::new(run);
    let write = |step: usize, files: usize| {
        let pending = store.begin(step).unwrap();
        let file = |number: usize| pending.path().join(number.to_string());
        fs::write(file(0), "bytes").unwrap();
        // One file of many names is on the disk in an instant.
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
    // Stays to be killed.
    thread::park();
}
