//! `bupo tune-lens`, and commands that read policies through its lens.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::{fail, fixture, lines, succeed, text};

/// Settings of a small run.
const SMALL: [&str; 5] = [
    "rollout.prompts=4",
    "rollout.group_size=4",
    "update.mini_batch_prompts=4",
    "evaluation.problems=4",
    "evaluation.samples=1",
];
const FIT: [&str; 9] = ["--limit", "8", "--samples", "4", "--max-new-tokens", "24", "--steps", "30", "--tokens"];

/// A lens of the embedded model.
fn fitted(folder: &Path) -> PathBuf {
    let path = folder.join("lens.safetensors");
    let shown = succeed(&[&["tune-lens", "--out", text(&path)][..], &FIT, &["128"]].concat());
    assert!(shown.contains("8 prompts x 4 responses") && shown.contains("wrote the tuned lens"), "{shown}");
    let rows: Vec<Vec<f64>> = shown
        .lines()
        .filter_map(|line| line.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>().ok())
        .filter(|row| row.len() == 3)
        .collect();
    assert!(fail(&["tune-lens", "--out", text(&path)]).contains("--force"));
    assert_eq!(rows.len(), 5, "the layers below the last: {shown}");
    assert!(rows.iter().all(|row| row[2] < row[1]), "closer than the logit lens: {shown}");
    path
}

#[test]
fn a_lens_is_fitted_and_read_through() {
    let folder = tempfile::tempdir().unwrap();
    let lens = fitted(folder.path());
    let through = ["--norm", "tuned", "--tuned-lens", text(&lens)];
    let shown = succeed(&[&["lens", "7+5="][..], &through].concat());
    assert!(shown.starts_with("norm tuned (tuned lens)"), "{shown}");
    assert_ne!(shown.lines().nth(3), succeed(&["lens", "7+5="]).lines().nth(3));
    let out = folder.path().join("analysis");
    let sizes = ["--limit", "4", "--samples", "1", "--max-new-tokens", "16", "--out", text(&out)];
    succeed(&[&["analyze"][..], &sizes, &through].concat());
    let table = fs::read_to_string(out.join("measures.csv")).unwrap();
    assert!(table.contains(",tuned,layer:2,") && table.contains(",final,attn:2,"), "contributions have no map");
    succeed(&[&["generate", "--prompt", "7+5=", "--policy", "layer:4"][..], &through].concat());
}

#[test]
fn a_phase_is_trained_through_a_lens_which_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let lens = fitted(folder.path());
    let before = fs::read(&lens).unwrap();
    let run = folder.path().join("run");
    let setting = format!("tuned_lens={:?}", text(&lens));
    let settings = [
        &setting,
        "phases.0.norm=tuned",
        "phases.0.steps=1",
        "phases.1.site=layer:4",
        "phases.1.norm=tuned",
        "phases.1.steps=1",
        "objective.kl_coefficient=0.1",
    ];
    let set: Vec<&str> = settings.into_iter().chain(SMALL).flat_map(|setting| ["--set", setting]).collect();
    let shown = succeed(&[&["train", "--out", text(&run)][..], &set].concat());
    assert!(shown.contains("layer:3 (norm tuned)"), "{shown}");
    assert!(lines(&run.join("metrics.jsonl")).iter().all(|line| line["grad_norm"].as_f64().unwrap() > 0.0));
    assert_eq!(fs::read(&lens).unwrap(), before);
    assert!(!run.join("model/tuned_lens").exists(), "a lens belongs to the weights it was fitted to");
    // A run that goes on from its checkpoint has the lens too; it must be the same.
    succeed(&["train", "--resume", text(&run), "--set", "phases.1.steps=2"]);
    assert_eq!(lines(&run.join("metrics.jsonl")).len(), 3);
    let mut other = before;
    let last = other.len() - 1;
    other[last] ^= 1;
    fs::write(&lens, other).unwrap();
    let error = fail(&["train", "--resume", text(&run), "--set", "phases.1.steps=3"]);
    assert!(error.contains("tuned lens") && error.contains("checksum differs"), "{error}");
}

#[test]
fn a_sweep_compares_layers_read_through_a_lens_with_the_full_policy() {
    let folder = tempfile::tempdir().unwrap();
    let (lens, out) = (fitted(folder.path()), folder.path().join("sweep"));
    let setting = format!("tuned_lens={:?}", text(&lens));
    let settings = [&setting, "phases.0.norm=tuned"];
    let set: Vec<&str> = settings.into_iter().chain(SMALL).flat_map(|setting| ["--set", setting]).collect();
    let sweep = ["sweep", "--sites", "layer:2,full", "--steps", "1", "--out", text(&out)];
    let shown = succeed(&[&sweep[..], &set].concat());
    assert!(shown.contains("layer:2") && shown.contains("full"), "{shown}");
}

#[test]
fn wrong_input_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("lens.safetensors");
    let few = ["--limit", "2", "--samples", "1"];
    for (args, expected) in [
        (&["lens", "7+5=", "--norm", "tuned"][..], "bupo tune-lens"),
        (&["lens", "7+5=", "--tuned-lens", "x"], "needs --norm tuned"),
        (&["generate", "--prompt", "7+5=", "--norm", "tuned"], "a layer's policy"),
        (&["lens", "7+5=", "--norm", "tuned", "--site", "attn"], "a layer's policy"),
        (&["lens", "7+5=", "--norm", "tuned", "--tuned-lens", "/missing.safetensors"], "/missing.safetensors"),
        (&["tune-lens"], "give --out"),
        (&["tune-lens", "--out", text(&out), "--lr", "0"], "--lr is 0"),
        (&["tune-lens", "--out", text(&out), "--steps", "0"], "--steps"),
        (&["tune-lens", "--out", "/missing/lens.safetensors"], "/missing"),
        (&[&["tune-lens", "--out", text(&out)][..], &few].concat(), "2 responses"),
        (&["train", "--out", text(&out), "--set", "phases.0.norm=tuned"], "bupo tune-lens"),
        (&["train", "--out", text(&out), "--set", "tuned_lens=x"], "no phase has norm"),
        (
            &["train", "--out", text(&out), "--set", "phases.0.site=ffn:2", "--set", "phases.0.norm=tuned"],
            "layer:N alone",
        ),
    ] {
        let error = fail(args);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert!(!out.exists());
    // A lens of another model.
    let small = fixture("tuned_lens.safetensors");
    let error = fail(&["lens", "7+5=", "--norm", "tuned", "--tuned-lens", text(&small)]);
    assert!(error.contains("its own tuned lens"), "{error}");
}
