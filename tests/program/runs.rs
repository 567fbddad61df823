//! Short training runs, interrupted runs, and their comparison.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{bupo, succeed, text};

/// Number of steps with [`SETTINGS`].
pub const STEPS: usize = 12;

/// Two phases of six steps of two updates each, a checkpoint after every step.
pub const SETTINGS: [&str; 13] = [
    "phases.0.steps=6",
    "phases.1.steps=6",
    "rollout.prompts=4",
    "update.mini_batch_prompts=2",
    "rollout.group_size=4",
    "rollout.max_new_tokens=12",
    "evaluation.problems=4",
    "evaluation.samples=2",
    "probe.every=2",
    "objective.kl_coefficient=0.01",
    "learning_rate_schedule.warmup_steps=2",
    "checkpoint.every=1",
    "checkpoint.keep_last=100",
];

/// Arguments of `bupo train` with [`SETTINGS`] and `more`.
pub fn arguments<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--out", text(out)];
    args.extend(SETTINGS.iter().chain(more).flat_map(|setting| ["--set", setting]));
    args
}

pub fn whole_run(folder: &TempDir, more: &[&str]) -> PathBuf {
    let out = folder.path().join("whole");
    succeed(&arguments(&out, more));
    out
}

/// Lines of a log without times and memory.
pub fn timeless(run: &Path, log: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(log)).unwrap();
    text.lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let measured =
                |key: &str| key.starts_with("seconds") || ["tokens_per_second", "memory_peak"].contains(&key);
            line.as_object_mut().unwrap().retain(|key, _| !measured(key));
            line
        })
        .collect()
}

/// Checks that two runs have the same files, except for times.
pub fn assert_same_run(a: &Path, b: &Path, what: &str) {
    for log in ["metrics.jsonl", "completions.jsonl", "probe.jsonl"] {
        assert_eq!(timeless(a, log), timeless(b, log), "{what}: {log}");
    }
    let boundary = |run: &Path| fs::read(run.join("boundary.json")).ok();
    assert!(boundary(a) == boundary(b), "{what}: boundary.json");
    let moments = newest_checkpoint(a).strip_prefix(a).unwrap().join("optimizer.safetensors");
    let results = ["adapter/adapter_model.safetensors", "model/model.safetensors"].map(Path::new);
    let result = if a.join(results[0]).exists() { results[0] } else { results[1] };
    for file in [result, &moments, Path::new("evaluation.json")] {
        assert!(fs::read(a.join(file)).unwrap() == fs::read(b.join(file)).unwrap(), "{what}: {}", file.display());
    }
}

/// The newest checkpoint of a run.
pub fn newest_checkpoint(run: &Path) -> PathBuf {
    fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

/// A copy of a run as a process that was killed in the step after `step` leaves it.
pub fn interrupted(whole: &Path, folder: &TempDir, step: usize) -> PathBuf {
    let run = folder.path().join(format!("interrupted-{step}"));
    copy(whole, &run);
    for entry in fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name().unwrap().to_str().unwrap() > format!("step-{step:06}").as_str() {
            fs::remove_dir_all(entry).unwrap();
        }
    }
    for made_at_the_end in ["model", "adapter", "evaluation.json", "report.html"] {
        let path = run.join(made_at_the_end);
        if !path.exists() {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    // An incomplete line.
    let metrics = run.join("metrics.jsonl");
    let whole = fs::read_to_string(&metrics).unwrap();
    fs::write(metrics, whole + "{\"step\":99,\"phase\":2,\"rew").unwrap();
    run
}

/// The error of a command that can print warnings before it fails.
pub fn fail_last_line(args: &[&str]) -> String {
    let output = bupo(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !said.contains("panicked"), "{said}");
    said.lines().last().unwrap_or_default().to_string()
}

pub fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_bupo"))
        .args(args)
        .args(["--device", &super::device()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn wait_for(path: &Path) {
    for _ in 0..6000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} does not exist after 60 s", path.display());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
