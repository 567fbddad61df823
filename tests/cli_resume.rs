//! Runs that are stopped, killed, damaged, and go on.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod program;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use program::{fail, succeed, text};
use serde_json::Value;
use tempfile::TempDir;

/// Two phases of three steps of two updates each, a checkpoint after every step.
const SETTINGS: [&str; 12] = [
    "phases.0.steps=3",
    "phases.1.steps=3",
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
];

fn arguments<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--out", text(out), "--set", "checkpoint.keep_last=100"];
    args.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
    args.extend(more);
    args
}

fn whole_run(folder: &TempDir) -> std::path::PathBuf {
    let out = folder.path().join("whole");
    succeed(&arguments(&out, &[]));
    out
}

/// Lines of a log without what a clock says.
fn timeless(run: &Path, log: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(log)).unwrap();
    text.lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            for clock in ["seconds", "tokens_per_second", "seconds_rollout", "seconds_update"] {
                line.as_object_mut().unwrap().remove(clock);
            }
            line
        })
        .collect()
}

/// Every byte that two runs must share, but for clocks.
fn assert_same_run(a: &Path, b: &Path, what: &str) {
    for log in ["metrics.jsonl", "completions.jsonl", "probe.jsonl"] {
        assert_eq!(timeless(a, log), timeless(b, log), "{what}: {log}");
    }
    for file in ["model/model.safetensors", "checkpoints/step-000006/optimizer.safetensors", "evaluation.json"] {
        assert!(fs::read(a.join(file)).unwrap() == fs::read(b.join(file)).unwrap(), "{what}: {file}");
    }
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

/// The run as a process that died after `step` would have left it, in the middle of the next.
fn interrupted(whole: &Path, folder: &TempDir, step: usize) -> std::path::PathBuf {
    let run = folder.path().join(format!("interrupted-{step}"));
    copy(whole, &run);
    for later in step + 1..=6 {
        fs::remove_dir_all(run.join(format!("checkpoints/step-{later:06}"))).unwrap();
    }
    for made_at_the_end in ["model", "evaluation.json", "report.html"] {
        let path = run.join(made_at_the_end);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    // A line that was being written.
    let metrics = run.join("metrics.jsonl");
    let whole = fs::read_to_string(&metrics).unwrap();
    fs::write(metrics, whole + "{\"step\":7,\"phase\":2,\"rew").unwrap();
    run
}

#[test]
fn a_run_goes_on_to_the_same_bytes_from_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder);
    let sites: Vec<Value> = timeless(&whole, "metrics.jsonl").iter().map(|line| line["site"].clone()).collect();
    assert_eq!(sites, ["layer:3", "layer:3", "layer:3", "full", "full", "full"]);
    for step in 1..=6 {
        let run = interrupted(&whole, &folder, step);
        succeed(&["train", "--resume", text(&run)]);
        assert_same_run(&whole, &run, &format!("after step {step}"));
    }
    let listed = succeed(&["runs", text(folder.path())]);
    assert!(listed.contains("whole") && listed.contains("finished") && listed.contains("6/6"), "{listed}");

    // A damaged checkpoint is named, and the one before it used.
    let run = interrupted(&whole, &folder, 5);
    let shard = run.join("checkpoints/step-000005/model/model.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    fs::write(run.join("checkpoints/step-000004/manifest.json"), "{\"format\": 1, ").unwrap();
    let output = program::bupo(&["train", "--resume", text(&run)]);
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{warnings}");
    assert!(warnings.contains("step-000005") && warnings.contains("step-000004"), "{warnings}");
    assert_same_run(&whole, &run, "past damaged checkpoints");

    // What must stay is refused, and nothing is touched.
    let run = interrupted(&whole, &folder, 3);
    assert!(fail(&["train", "--resume", text(&run), "--set", "rollout.prompts=8"]).contains("rollout.prompts"));
    assert!(
        fail(&["train", "--resume", text(&run), "--set", "phases.1.steps=0", "--set", "phases.0.steps=1"])
            .contains("are done")
    );
    assert!(fail(&["train", "--resume", "/no/such/run"]).contains("/no/such/run"));
    succeed(&["train", "--resume", text(&run)]);
    assert_same_run(&whole, &run, "after refusals");

    // More steps go on where the run ended; a fork leaves its origin alone.
    let fork = folder.path().join("fork");
    let more = ["--set", "optimizer.learning_rate=1e-5", "--from-step", "2"];
    succeed(&[&["train", "--fork", text(&whole), "--out", text(&fork)], &more[..]].concat());
    assert_eq!(timeless(&fork, "metrics.jsonl")[..2], timeless(&whole, "metrics.jsonl")[..2]);
    assert_ne!(timeless(&fork, "metrics.jsonl")[2..], timeless(&whole, "metrics.jsonl")[2..]);
    succeed(&["train", "--resume", text(&run), "--set", "phases.1.steps=4"]);
    assert_eq!(timeless(&run, "metrics.jsonl").len(), 7);

    // A checkpoint of another model.
    let other = ["--set", &format!("model={}", text(&program::fixture("qwen3-tied")))].map(String::from);
    let out = folder.path().join("other");
    let args = ["train", "--fork", text(&whole), "--out", text(&out), &other[0], &other[1]];
    assert!(!fail(&args).is_empty());
    assert!(!out.exists());
}

#[test]
fn ctrl_c_keeps_the_step_and_a_killed_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder);

    let run = folder.path().join("stopped");
    let mut child = spawn(&arguments(&run, &[]));
    wait_for(&run.join("checkpoints/step-000001/manifest.json"));
    // Nobody else may train there meanwhile.
    assert!(fail(&["train", "--resume", text(&run)]).contains(&child.id().to_string()));
    signal(&child, "-INT");
    let mut said = String::new();
    let status = child.wait().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{said}");
    if !said.contains("model        ") {
        assert!(said.contains("--resume"), "{said}");
        assert!(succeed(&["runs", text(folder.path())]).contains("stopped"));
        succeed(&["train", "--resume", text(&run)]);
    }
    assert_same_run(&whole, &run, "stopped");

    for (index, millis) in [0, 90, 200, 310, 450].into_iter().enumerate() {
        let run = folder.path().join(format!("killed-{index}"));
        let mut child = spawn(&arguments(&run, &[]));
        wait_for(&run.join("metrics.jsonl"));
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        succeed(&["train", "--resume", text(&run)]);
        assert_same_run(&whole, &run, &format!("killed after {millis} ms"));
    }
}

#[test]
fn what_is_not_finite_stops_the_run_with_its_checkpoint_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Rewards so far below 0 that a group's have no mean.
    let wild = ["--set", "rollout.overlong_share=0.9", "--set", "rollout.overlong_penalty=1e308"];
    let message = fail_last_line(&arguments(&run, &wild));
    assert!(message.contains("4 updates in a row"), "{message}");
    assert!(succeed(&["runs", text(folder.path())]).contains("failed"));
    let kept: Vec<Value> = fs::read_dir(run.join("skipped"))
        .unwrap()
        .map(|file| serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap())
        .collect();
    assert!(
        kept.len() >= 4 && kept.iter().all(|kept| kept["loss"].is_null() && kept["samples"][0]["sequence"].is_object())
    );
    // The newest checkpoint is a model like any other.
    let checkpoints = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let newest = checkpoints.max().unwrap().join("model");
    succeed(&["generate", "--model", text(&newest), "--prompt", "1+1="]);
    assert!(fail_last_line(&["train", "--resume", text(&run)]).contains("in a row"));

    // Sampling from a policy whose logits overflow.
    let run = folder.path().join("overflow");
    let message = fail_last_line(&arguments(&run, &["--set", "rollout.temperature=1e-40"]));
    assert!(message.contains("finite"), "{message}");
}

/// The error of a command that may warn before it fails.
fn fail_last_line(args: &[&str]) -> String {
    let output = program::bupo(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !said.contains("panicked"), "{said}");
    said.lines().last().unwrap_or_default().to_string()
}

fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_bupo"))
        .args(args)
        .args(["--device", "cpu"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(path: &Path) {
    for _ in 0..6000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} never came", path.display());
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}
