//! Runs that go on where they were interrupted, to the same bytes.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod program;

use std::fs;
use std::path::Path;

use program::runs::{STEPS, arguments, assert_same_run, interrupted, timeless, whole_run};
use program::{fail, succeed, text};
use serde_json::{Value, json};
use tempfile::TempDir;

fn sites(run: &Path) -> Vec<Value> {
    timeless(run, "metrics.jsonl").iter().map(|line| line["site"].clone()).collect()
}

/// A run interrupted after each of some steps goes on to the same bytes.
fn goes_on_from(whole: &Path, folder: &TempDir, steps: impl IntoIterator<Item = usize>) {
    for step in steps {
        let run = interrupted(whole, folder, step);
        succeed(&["train", "--resume", text(&run)]);
        assert_same_run(whole, &run, &format!("after step {step}"));
        fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn a_run_goes_on_to_the_same_bytes_from_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &[]);
    assert_eq!(sites(&whole), [["layer:3"; STEPS / 2], ["full"; STEPS / 2]].concat());
    goes_on_from(&whole, &folder, 1..=STEPS);
    let listed = succeed(&["runs", text(folder.path())]);
    assert!(listed.contains("whole") && listed.contains("finished") && listed.contains("12/12"), "{listed}");
}

#[test]
fn a_layer_that_was_found_stays_found() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &["phases.0.layer=auto"]);
    goes_on_from(&whole, &folder, [1, 5, 6, 7]);
    assert!(whole.join("boundary.json").exists());
}

/// Data files, which are shuffled, a scorer that is another process, and draws of prompts that depend on their rewards.
#[cfg(unix)]
#[test]
fn a_run_on_data_files_with_a_scorer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (sums, scorer) = (folder.path().join("sums.jsonl"), folder.path().join("score.sh"));
    let line = |i: usize| format!("{}\n", json!({"question": format!("{i}+{i}="), "answer": 2 * i}));
    fs::write(&sums, (1..=14).map(line).collect::<String>()).unwrap();
    // Half a point for an even number of letters.
    fs::write(&scorer, "while read -r line; do echo 0.$(( (${#line} % 2) * 5 )); done\n").unwrap();
    let (data, rule) = (format!("data.train=['{}']", text(&sums)), format!("reward.rule=command:sh {}", text(&scorer)));
    let whole = whole_run(&folder, &[&data, &rule, "loss=dapo", "rollout.max_draws=3"]);
    let rewards: Vec<f64> =
        timeless(&whole, "metrics.jsonl").iter().map(|line| line["reward"].as_f64().unwrap()).collect();
    assert!(rewards.iter().any(|reward| (0.01..0.49).contains(reward)), "{rewards:?}");
    goes_on_from(&whole, &folder, [1, 4, 6, 9]);
}

#[test]
fn evaluations_in_between_keep_the_best_and_end_a_run_that_gains_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A step so small that nothing changes: no evaluation is better than the first.
    let settings = [
        "optimizer.learning_rate=1e-12",
        "evaluation.every=2",
        "evaluation.patience=2",
        "checkpoint.keep_last=1",
        "checkpoint.every=0",
    ];
    let whole = whole_run(&folder, &settings);
    assert_eq!(sites(&whole).len(), 4, "two evaluations in a row were no better");
    goes_on_from(&whole, &folder, [4]);

    // Training that learns: the best evaluation's checkpoint is there, whatever came after it.
    let out = folder.path().join("learns");
    let settings = [
        "optimizer.learning_rate=3e-3",
        "rollout.prompts=16",
        "update.mini_batch_prompts=8",
        "evaluation.every=2",
        "evaluation.problems=40",
        "checkpoint.keep_last=1",
    ];
    succeed(&arguments(&out, &settings));
    let outcome: Value = serde_json::from_slice(&fs::read(out.join("evaluation.json")).unwrap()).unwrap();
    let best = outcome["best_step"].as_u64().unwrap();
    assert!(best.is_multiple_of(2));
    let mut kept: Vec<String> = fs::read_dir(out.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    let mut expected = vec![format!("step-{STEPS:06}")];
    if best > 0 && best < STEPS as u64 {
        expected.insert(0, format!("step-{best:06}"));
    }
    assert_eq!(kept, expected);
}

#[test]
fn damaged_checkpoints_are_named_and_what_must_stay_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &[]);

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

    // More steps go on where the run ended; a fork leaves its initial_policy alone.
    let fork = folder.path().join("fork");
    let more = ["--set", "optimizer.learning_rate=1e-5", "--from-step", "2"];
    succeed(&[&["train", "--fork", text(&whole), "--out", text(&fork)], &more[..]].concat());
    assert_eq!(timeless(&fork, "metrics.jsonl")[..2], timeless(&whole, "metrics.jsonl")[..2]);
    assert_ne!(timeless(&fork, "metrics.jsonl")[2..], timeless(&whole, "metrics.jsonl")[2..]);
    succeed(&["train", "--resume", text(&run), "--set", "phases.1.steps=7"]);
    assert_eq!(timeless(&run, "metrics.jsonl").len(), STEPS + 1);

    // A checkpoint of another model.
    let other = ["--set", &format!("model={}", text(&program::fixture("qwen3-tied")))].map(String::from);
    let out = folder.path().join("other");
    let args = ["train", "--fork", text(&whole), "--out", text(&out), &other[0], &other[1]];
    assert!(!fail(&args).is_empty());
    assert!(!out.exists());
}
