//! `bupo sweep`.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::runs::{spawn, timeless, wait_for};
use program::{check_page, fail, succeed, text};
use serde_json::Value;

const SETTINGS: [&str; 9] = [
    "rollout.prompts=4",
    "update.mini_batch_prompts=2",
    "rollout.group_size=4",
    "rollout.max_new_tokens=12",
    "evaluation.problems=4",
    "evaluation.samples=2",
    "probe.every=0",
    "checkpoint.every=1",
    "optimizer.learning_rate=1e-3",
];

/// Two sites with two seeds, four steps each.
fn arguments<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["sweep", "--steps", "4", "--seeds", "0,5", "--out", text(out)];
    args.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
    args.extend(more);
    args
}

const SITES: [&str; 2] = ["--sites", "layer:2,full"];
const RUNS: [&str; 4] = ["layer-2-seed-0", "full-seed-0", "layer-2-seed-5", "full-seed-5"];

fn run(sweep: &Path, name: &str) -> PathBuf {
    sweep.join("runs").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn assert_same_sweep(whole: &Path, other: &Path) {
    for name in ["sweep.json", "sweep.csv", "selectors.json", "sweep.toml"] {
        assert_eq!(
            fs::read_to_string(whole.join(name)).unwrap(),
            fs::read_to_string(other.join(name)).unwrap(),
            "{name}"
        );
    }
    for name in RUNS {
        assert_eq!(
            timeless(&run(whole, name), "metrics.jsonl"),
            timeless(&run(other, name), "metrics.jsonl"),
            "{name}"
        );
    }
}

#[test]
fn a_sweep_compares_sites_and_a_killed_one_goes_on_to_the_same_result() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let shown = succeed(&arguments(&whole, &SITES));
    for wanted in [
        "run 1 of 4: layer:2, seed 0",
        "run 4 of 4: full, seed 5",
        "Student's 95% interval over 2 seeds",
        "boundary layer",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    check_result(&whole);
    let page = check_page(&whole.join("sweep.html"));
    for wanted in ["Gain by layer", "Gradient cosine with the full policy", "KL(layer || full)", "layer-2-seed-5"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    // Killed in its first run, between two runs' checkpoints, and stopped by Ctrl-C in its third.
    for (at, signal) in [("layer-2-seed-0", "-KILL"), ("full-seed-0", "-KILL"), ("layer-2-seed-5", "-INT")] {
        let child = spawn(&arguments(&killed, &SITES));
        wait_for(&run(&killed, at).join("checkpoints/step-000001/manifest.json"));
        std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let stopped = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        if signal == "-INT" {
            assert!(stopped.contains("goes on") || stopped.contains("numbers      "), "{stopped}");
        }
    }
    let first = fs::metadata(run(&killed, RUNS[0]).join("evaluation.json")).unwrap().modified().unwrap();
    let shown = succeed(&arguments(&killed, &SITES));
    assert!(!shown.contains("run 1 of 4"), "a finished run is kept: {shown}");
    assert_eq!(fs::metadata(run(&killed, RUNS[0]).join("evaluation.json")).unwrap().modified().unwrap(), first);
    assert_same_sweep(&whole, &killed);
    // Weights and moments are removed, and a finished sweep only prints its table again.
    assert!(!run(&whole, RUNS[0]).join("checkpoints").exists() && !run(&whole, RUNS[0]).join("model").exists());
    let again = succeed(&arguments(&whole, &SITES));
    assert!(again.contains("layer:2") && !again.contains("run 1 of 4"), "{again}");
    refuses_other_settings(&whole);
}

/// The numbers of `sweep.json` are those of the runs.
fn check_result(sweep: &Path) {
    let result = json(&sweep.join("sweep.json"));
    let entries = result["entries"].as_array().unwrap();
    assert_eq!(entries.iter().map(|entry| entry["variant"].as_str().unwrap()).collect::<Vec<_>>(), ["layer:2", "full"]);
    for entry in entries {
        let mut gains = Vec::new();
        for of_seed in entry["runs"].as_array().unwrap() {
            let evaluation = json(&sweep.join(of_seed["folder"].as_str().unwrap()).join("evaluation.json"));
            let of = |when: &str| evaluation[when]["avg_at_k"].as_f64().unwrap();
            let gain = of("after") - of("before");
            assert_eq!(of_seed["gain"].as_f64().unwrap(), gain);
            gains.push(gain);
        }
        assert_eq!(gains.len(), 2);
        let mean = entry["gain"]["mean"].as_f64().unwrap();
        let half_width = entry["gain"]["half_width"].as_f64().unwrap();
        assert!((mean - (gains[0] + gains[1]) / 2.0).abs() < 1e-12);
        // t(1) s / sqrt(2) with s = |a - b| / sqrt(2).
        assert!((half_width - 12.706_205 * (gains[0] - gains[1]).abs() / 2.0).abs() < 1e-4);
    }
    let measured = &entries[0]["measured"];
    let cosine = measured["gradient_cosine"].as_f64().unwrap();
    assert!(cosine > -1.0 && cosine < 1.0 && cosine != 0.0, "{cosine}");
    assert!(measured["kl_to_full"].as_f64().unwrap() > 0.0 && measured["block_influence"].as_f64().unwrap() > 0.0);
    // The entropy change of layer 2 is the one by which the boundary is found.
    assert_eq!(measured["entropy_change"], result["boundary"]["changes"][1]);
    assert!(entries[1]["measured"]["kl_to_full"].is_null());
}

fn refuses_other_settings(sweep: &Path) {
    for (more, expected) in [
        (
            vec!["--sites", "layer:2,full", "--set", "rollout.temperature=0.9"],
            "settings.rollout.temperature is 1.0, not 0.9",
        ),
        (vec!["--sites", "layer:3,full"], "variants is [\"layer:2\", \"full\"], not [\"layer:3\", \"full\"]"),
    ] {
        let message = fail(&arguments(sweep, &more));
        assert!(message.contains(expected) && message.contains("choose another --out"), "{message}");
    }
}

#[test]
fn a_run_of_a_sweep_is_the_run_of_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    let (sweep, alone) = (folder.path().join("sweep"), folder.path().join("alone"));
    succeed(&arguments(&sweep, &["--layers", "2,all", "--keep-models"]));
    for name in ["parameters-2-seed-5", "parameters-all-seed-0"] {
        let of_sweep = run(&sweep, name);
        succeed(&["train", "--config", text(&of_sweep.join("config.toml")), "--out", text(&alone)]);
        program::runs::assert_same_run(&of_sweep, &alone, name);
        fs::remove_dir_all(&alone).unwrap();
    }
    // Only the layer's weights have changed.
    let settings = fs::read_to_string(run(&sweep, "parameters-2-seed-5").join("config.toml")).unwrap();
    assert!(settings.contains("layers = \"2\"") && settings.contains("embedding = false"), "{settings}");
    let result = json(&sweep.join("sweep.json"));
    let entries = result["entries"].as_array().unwrap();
    let (one, all) = (&entries[0], &entries[1]);
    assert_eq!((one["variant"].as_str(), one["layer"].as_u64()), (Some("parameters:2"), Some(2)));
    let share = one["contribution"].as_f64();
    let all = all["gain"]["mean"].as_f64().unwrap();
    let expected = (all > 0.0).then(|| one["gain"]["mean"].as_f64().unwrap() / all);
    assert_eq!(share, expected);
}

#[test]
fn the_last_layer_with_the_final_norm_has_the_measures_of_the_full_policy() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sweep");
    let last = ["--sites", "layer:5-6,full", "--set", "phases.0.norm=final", "--steps", "1", "--seeds", "3", "--quiet"];
    let mut args = vec!["sweep", "--out", text(&out)];
    args.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
    args.extend(last);
    let shown = succeed(&args);
    assert!(!shown.contains("run 1 of 3") && shown.contains("layer:6"), "{shown}");
    let result = json(&out.join("sweep.json"));
    let measured = |index: usize, name: &str| result["entries"][index]["measured"][name].as_f64().unwrap();
    assert!((measured(1, "gradient_cosine") - 1.0).abs() < 1e-6 && measured(1, "kl_to_full").abs() < 1e-6);
    assert!(measured(0, "gradient_cosine") < 0.99 && measured(0, "kl_to_full") > 1e-3);
    // One seed has no interval.
    assert!(result["entries"][0]["gain"]["half_width"].is_null());
    let csv = fs::read_to_string(out.join("sweep.csv")).unwrap();
    let cells: Vec<&str> = csv.lines().nth(2).unwrap().split(',').collect();
    assert_eq!((cells[0], cells[1], cells[2], cells[4]), ("layer:6", "6", "1", ""));
}

#[test]
fn wrong_things_are_refused_before_work_starts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sweep");
    for (more, expected) in [
        (vec!["--sites", "layer:9"], "`layer:9` is outside the model, which has layers 1 to 6"),
        (vec!["--sites", "layer:5-2"], "write the lowest layer first"),
        (vec!["--sites", "mlp:2"], "unknown policy site `mlp:2`"),
        (vec!["--sites", "layer:2,layer:1-3"], "has layer:2 twice"),
        (vec!["--layers", "2,7"], "names layer 7; the model has layers 1 to 6"),
        (vec!["--layers", "one"], "write layers from 1, ranges such as 1-6, or all"),
        (vec!["--sites", "full", "--seeds", "1,1"], "--seeds has 1 twice"),
        (vec!["--sites", "full", "--steps", "0"], "--steps is 0"),
        (vec!["--sites", "full", "--set", "algorithm=grpo"], "a sweep chooses the site"),
        (vec!["--sites", "full", "--set", "rollout.promts=2"], "did you mean prompts?"),
        (vec!["--sites", "full", "--set", "data.train=['missing.jsonl']"], "missing.jsonl"),
    ] {
        let mut args = vec!["sweep", "--out", text(&out)];
        args.extend(more);
        let message = fail(&args);
        assert!(message.contains(expected), "{args:?}: {message}");
        assert!(!out.join("sweep.toml").exists(), "{args:?}");
    }
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("notes.txt"), "mine").unwrap();
    let message = fail(&arguments(&out, &SITES));
    assert!(message.contains("exists and is not empty"), "{message}");
}
