//! `bupo report`, and the page of a run.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;

use program::{check_page, fail, lines, succeed, text};
use serde_json::Value;

/// A run of three steps with layer = "auto".
fn short_run(out: &Path, seed: &str) -> String {
    let mut args = vec!["train", "--seed", seed, "--out", text(out)];
    for setting in [
        "phases.0.layer=auto",
        "phases.0.steps=2",
        "phases.1.steps=1",
        "rollout.prompts=4",
        "update.mini_batch_prompts=2",
        "rollout.group_size=4",
        "rollout.max_new_tokens=16",
        "evaluation.problems=4",
        "evaluation.samples=2",
        "probe.every=2",
    ] {
        args.extend(["--set", setting]);
    }
    succeed(&args)
}

#[test]
fn a_run_finds_its_layer_probes_itself_and_writes_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let shown = short_run(&a, "1");
    short_run(&b, "2");
    assert!(shown.contains("layer = \"auto\""), "{shown}");
    let boundary: Value = serde_json::from_slice(&fs::read(a.join("boundary.json")).unwrap()).unwrap();
    let expected = boundary["layer"].as_u64().map_or("full".to_string(), |layer| format!("layer:{layer}"));
    let metrics = lines(&a.join("metrics.jsonl"));
    assert_eq!(metrics[0]["site"], *expected);
    assert_eq!(boundary["changes"].as_array().unwrap().len(), 6);
    assert!(
        shown.contains(boundary["reason"].as_str().unwrap())
            && boundary["certainty"].as_str().unwrap().contains("tolerance")
    );
    let probe = lines(&a.join("probe.jsonl"));
    assert_eq!(probe.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(probe[0]["means"]["entropy"].as_object().unwrap().len(), 19);
    assert_eq!((probe[0]["tokens"].as_u64(), &probe[0]["tokens"]), (probe[1]["tokens"].as_u64(), &probe[1]["tokens"]));
    assert_ne!(probe[0]["means"], probe[1]["means"], "training changes the model");
    for statistic in ["cosine_to_last", "cka_to_last", "cosine_to_base", "cka_to_base"] {
        let of =
            |line: usize, layer: usize| probe[line]["means"][statistic][format!("layer:{layer}")].as_f64().unwrap();
        assert_eq!(probe[1]["means"][statistic].as_object().unwrap().len(), 6);
        let is_same = |value: f64| (value - 1.0).abs() < 1e-6;
        if statistic.ends_with("base") {
            assert!((1..=6).all(|layer| is_same(of(0, layer))), "{statistic}: {}", probe[0]);
            assert!(of(1, 6) < 1.0 && of(1, 6) > 0.5 && of(1, 6) != of(0, 6), "{statistic}: {}", probe[1]);
        } else {
            assert!(is_same(of(1, 6)) && of(1, 2) < 0.999, "{statistic}: {}", probe[1]);
        }
    }
    let page = check_page(&a.join("report.html"));
    for wanted in [
        "Internal policies during training",
        "Sample completions",
        "extracted answer",
        "reference answer",
        "Gradient norm",
        "internal-entropy-1",
        "Feature refinement",
        "internal-cka-to-base-1",
        "internal-cosine-to-last-1",
        "chose",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    let both = folder.path().join("both.html");
    let pictures = folder.path().join("pictures");
    succeed_report(&[text(&a), text(&b), "--out", text(&both), "--pictures", text(&pictures)]);
    let page = check_page(&both);
    assert!(page.contains("Differences between the runs"));
    assert!(pictures.join("reward.svg").is_file() && pictures.join("reward.png").is_file());
    assert!(fail_report(&[text(&a), text(&b), "--out", text(&both)]).contains("--force"));
    // A run that was killed has no evaluation and an incomplete last line.
    fs::remove_file(b.join("evaluation.json")).unwrap();
    let metrics = fs::read_to_string(b.join("metrics.jsonl")).unwrap();
    fs::write(b.join("metrics.jsonl"), &metrics[..metrics.len() - 20]).unwrap();
    succeed_report(&[text(&b)]);
    assert!(check_page(&b.join("report.html")).contains("not finished, 2 steps"));
}

#[test]
fn a_folder_that_is_not_a_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(fail_report(&[text(folder.path())]).contains("not the folder of a training run"));
    assert!(fail_report(&[text(&folder.path().join("nowhere"))]).contains("nowhere does not exist"));
    fs::write(folder.path().join("config.toml"), "seed = 1\n").unwrap();
    fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 1}\nnonsense\n{}\n").unwrap();
    assert!(fail_report(&[text(folder.path())]).contains("metrics.jsonl line 1: missing field"));
}

fn succeed_report(args: &[&str]) {
    succeed(&[&["report"], args].concat());
}

fn fail_report(args: &[&str]) -> String {
    fail(&[&["report"], args].concat())
}
