//! Interrupted runs, resumed with the same results, byte for byte.
#![allow(clippy::unwrap_used)]

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

/// Checks that runs interrupted after some steps are resumed with the same results.
fn check_resumed_after(whole: &Path, folder: &TempDir, steps: impl IntoIterator<Item = usize>) {
    for step in steps {
        let run = interrupted(whole, folder, step);
        succeed(&["train", "--resume", text(&run)]);
        assert_same_run(whole, &run, &format!("after step {step}"));
        fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn a_run_resumed_after_any_step_has_the_same_results() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &[]);
    assert_eq!(sites(&whole), [["layer:3"; STEPS / 2], ["full"; STEPS / 2]].concat());
    check_resumed_after(&whole, &folder, 1..=STEPS);
    let listed = succeed(&["runs", text(folder.path())]);
    assert!(listed.contains("whole") && listed.contains("finished") && listed.contains("12/12"), "{listed}");
}

#[test]
fn a_resumed_run_keeps_the_layer_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &["phases.0.layer=auto"]);
    check_resumed_after(&whole, &folder, [1, 5, 6, 7]);
    assert!(whole.join("boundary.json").exists());
}

/// With shuffled data files, an external scorer, and dynamic sampling.
#[cfg(unix)]
#[test]
fn a_run_on_data_files_with_a_scorer_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (sums, scorer) = (folder.path().join("sums.jsonl"), folder.path().join("score.sh"));
    let line = |i: usize| format!("{}\n", json!({"question": format!("{i}+{i}="), "answer": 2 * i}));
    fs::write(&sums, (1..=14).map(line).collect::<String>()).unwrap();
    // The score is 0.5 for responses of even length.
    fs::write(&scorer, "while read -r line; do echo 0.$(( (${#line} % 2) * 5 )); done\n").unwrap();
    let (data, rule) = (format!("data.train=['{}']", text(&sums)), format!("reward.rule=command:sh {}", text(&scorer)));
    let whole = whole_run(&folder, &[&data, &rule, "loss=dapo", "rollout.max_draws=3"]);
    let rewards: Vec<f64> =
        timeless(&whole, "metrics.jsonl").iter().map(|line| line["reward"].as_f64().unwrap()).collect();
    assert!(rewards.iter().any(|reward| (0.01..0.49).contains(reward)), "{rewards:?}");
    check_resumed_after(&whole, &folder, [1, 4, 6, 9]);
}

/// With several epochs, rows that are dropped, a coefficient that follows the entropy, and tokens drawn at random.
#[test]
fn a_run_that_adapts_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let sums = folder.path().join("sums.jsonl");
    let line = |i: usize| {
        format!(
            "{}\n",
            json!({"question": format!("{i}+{i}="), "answer": 2 * i + 50 * usize::from(i.is_multiple_of(3))})
        )
    };
    fs::write(&sums, (1..=14).map(line).collect::<String>()).unwrap();
    let settings = [
        &format!("data.train=['{}']", text(&sums)),
        "reward.rule=numeric",
        "data.drop_after=1",
        "update.epochs=2",
        "objective.entropy_target={entropy=0.3,step=0.01,max=0.05}",
        "objective.covariance={mode='clip',share=0.1,low=-9.0,high=9.0}",
        "objective.reward_kl.coefficient=0.01",
        "objective.scale_rewards=batch",
    ];
    let whole = whole_run(&folder, &settings);
    let metrics = timeless(&whole, "metrics.jsonl");
    let numbers = |key: &str| -> Vec<f64> { metrics.iter().map(|line| line[key].as_f64().unwrap()).collect() };
    let dropped = numbers("problems_dropped");
    assert!(dropped[0] == 0.0 && dropped.is_sorted() && (1.0..=6.0).contains(&dropped[STEPS - 1]), "{dropped:?}");
    let coefficients = numbers("entropy_coefficient");
    assert!(coefficients[0] == 0.0 && coefficients.iter().any(|coefficient| *coefficient > 0.0), "{coefficients:?}");
    assert!(numbers("left_out_ratio").iter().all(|share| (0.02..=0.1).contains(share)));
    // Each epoch counts its updates: in the second one, ratios differ from 1 in every mini-batch.
    assert!(numbers("extreme_ratio").iter().all(|ratio| *ratio != 1.0));
    assert!(numbers("first_ratio").iter().all(|ratio| *ratio == 1.0));
    check_resumed_after(&whole, &folder, [1, 3, 8]);
}

#[test]
fn intermediate_evaluations_keep_the_best_checkpoint_and_stop_early() {
    let folder = tempfile::tempdir().unwrap();
    // With a negligible learning rate, no evaluation is better than the first.
    let settings = [
        "optimizer.learning_rate=1e-12",
        "evaluation.every=2",
        "evaluation.patience=2",
        "checkpoint.keep_last=1",
        "checkpoint.every=0",
    ];
    let whole = whole_run(&folder, &settings);
    assert_eq!(sites(&whole).len(), 4, "two evaluations in a row were no better");
    check_resumed_after(&whole, &folder, [4]);

    // With a usual learning rate, the checkpoint of the best evaluation is kept.
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
fn damaged_checkpoints_are_skipped_and_changed_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &[]);

    // A damaged checkpoint is reported, and the previous one is used.
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

    // Changes of other settings are refused, and no file is changed.
    let run = interrupted(&whole, &folder, 3);
    assert!(fail(&["train", "--resume", text(&run), "--set", "rollout.prompts=8"]).contains("rollout.prompts"));
    assert!(
        fail(&["train", "--resume", text(&run), "--set", "phases.1.steps=0", "--set", "phases.0.steps=1"])
            .contains("are done")
    );
    assert!(fail(&["train", "--resume", "/no/such/run"]).contains("/no/such/run"));
    for ignored in [&["--from-step", "3"][..], &["--resume", text(&run), "--from-step", "3"]] {
        let output = program::bupo(&[&["train"], ignored].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains("--from-step"), "{message}");
    }
    succeed(&["train", "--resume", text(&run)]);
    assert_same_run(&whole, &run, "after refusals");

    // A finished run can be given more steps; a fork does not change its source.
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
