//! Moments in bf16 and 8 bits, and weights kept in bf16: resumed runs, checkpoints, memory and refusals.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use program::runs::{arguments, assert_same_run, fail_last_line, interrupted, newest_checkpoint, whole_run};
use program::{bupo_on, succeed, text};
use safetensors::{Dtype, SafeTensors};

/// The dtypes of a file's tensors whose names end so.
fn dtypes(file: &Path, end: &str) -> BTreeSet<String> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let named = tensors.tensors().into_iter().filter(|(name, _)| name.ends_with(end));
    named.map(|(_, view)| format!("{:?}", view.dtype())).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn runs_with_smaller_moments_and_weights_are_resumed_with_the_same_results() {
    for (moments, weights, dtype, expected) in [
        ("8bit", "stochastic", "bf16", ["F32", "U8"]),
        ("bf16", "stochastic", "bf16", ["BF16", "F32"]),
        ("8bit", "f32-master", "f32", ["F32", "U8"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            format!("optimizer.moments={moments}"),
            format!("optimizer.weights={weights}"),
            format!("dtype={dtype}"),
            "optimizer.learning_rate=1e-3".into(),
        ];
        let whole = whole_run(&folder, &settings.each_ref().map(String::as_str));
        for step in [1, 6, 9] {
            let run = interrupted(&whole, &folder, step);
            succeed(&["train", "--resume", text(&run)]);
            assert_same_run(&whole, &run, &format!("{moments} {weights} after step {step}"));
        }
        let checkpoint = newest_checkpoint(&whole);
        // Norms have f32 moments, matrices those of the setting.
        assert_eq!(dtypes(&checkpoint.join("optimizer.safetensors"), "first"), set(&expected), "{moments}");
        let bytes = fs::read(checkpoint.join("model/model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for (name, view) in tensors.tensors() {
            assert_eq!(view.dtype(), Dtype::F32, "weights are saved exactly");
            let is_bf16 = view.data().chunks_exact(4).all(|word| word[0] == 0 && word[1] == 0);
            assert_eq!(is_bf16, weights == "stochastic" && name.contains("proj"), "{name} with {weights}");
        }
    }
}

#[test]
fn a_run_of_before_these_settings_is_resumed_and_forked_into_8_bits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &[]);
    assert_eq!(dtypes(&newest_checkpoint(&whole).join("optimizer.safetensors"), ""), set(&["F32"]));
    let run = interrupted(&whole, &folder, 8);
    let settings = fs::read_to_string(run.join("config.toml")).unwrap();
    let old: Vec<&str> =
        settings.lines().filter(|line| !line.starts_with("moments = ") && !line.starts_with("weights = ")).collect();
    assert_eq!(old.len() + 2, settings.lines().count());
    fs::write(run.join("config.toml"), old.join("\n")).unwrap();
    succeed(&["train", "--resume", text(&run)]);
    assert_same_run(&whole, &run, "old settings");

    let error = fail_last_line(&["train", "--resume", text(&run), "--set", "optimizer.moments=8bit"]);
    assert!(error.contains("optimizer.moments cannot change") && error.contains("--fork"), "{error}");
    for (from, step, moments, expected) in
        [("whole", "10", "8bit", ["F32", "U8"]), ("8bit", "11", "bf16", ["BF16", "F32"])]
    {
        let (from, out) = (folder.path().join(from), folder.path().join(moments));
        let setting = format!("optimizer.moments={moments}");
        succeed(&["train", "--fork", text(&from), "--from-step", step, "--out", text(&out), "--set", &setting]);
        let moments = newest_checkpoint(&out).join("optimizer.safetensors");
        assert_eq!(dtypes(&moments, "second"), set(&expected), "{setting}");
    }
}

#[test]
fn dtypes_that_do_not_run_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let refused = |device: &str, settings: &[&str]| {
        let output = bupo_on(device, &arguments(&out, settings));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !out.exists(), "{settings:?} on {device}: {said}");
        said.lines().last().unwrap_or_default().to_string()
    };
    let said = refused("ndarray", &["optimizer.moments=bf16"]);
    assert!(said.contains("optimizer.moments is \"bf16\"") && said.contains("no tensors of"), "{said}");
    for settings in [&["optimizer.weights=stochastic", "dtype=f32"][..], &["optimizer.weights=stochastic"]] {
        // `auto` is f32 for a model that is stored in f32.
        let said = refused("cpu", settings);
        assert!(said.contains("optimizer.weights is \"stochastic\"") && said.contains("set dtype"), "{said}");
    }
}

#[test]
fn moments_in_8_bits_train_on_ndarray_as_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let weights = ["cpu", "ndarray"].map(|device| {
        let out = folder.path().join(device);
        let small = ["optimizer.moments=8bit", "phases.0.steps=1", "phases.1.steps=1", "optimizer.learning_rate=1e-4"];
        let output = bupo_on(device, &arguments(&out, &small));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = fs::read(out.join("model/model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut all = tensors.tensors();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let words = |data: &[u8]| -> Vec<f32> {
            data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        all.into_iter().flat_map(|(_, view)| words(view.data())).collect::<Vec<f32>>()
    });
    let [cpu, ndarray] = &weights;
    assert_eq!(cpu.len(), ndarray.len());
    // Four updates of at most 1e-4 a weight; a gradient of 0 to rounding has either sign.
    let far = cpu.iter().zip(ndarray).filter(|(a, b)| (*a - *b).abs() > 2e-5).count();
    assert!(far < cpu.len() / 200, "{far} of {} weights differ", cpu.len());
}

#[test]
fn the_plan_counts_the_bytes_of_moments_and_weights() {
    let plan = |pairs: &[&str]| {
        let mut args = vec!["config", "check", "--device", "cpu"];
        args.extend(pairs.iter().flat_map(|pair| ["--set", pair]));
        succeed(&args)
    };
    let of = |plan: &str, part: &str| {
        let line = plan.lines().find(|line| line.trim_start().starts_with(part)).unwrap_or_default().to_string();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let (usual, small) = (plan(&[]), plan(&["dtype=bf16", "optimizer.moments=8bit", "optimizer.weights=stochastic"]));
    assert!(usual.contains("moments f32, weights f32-master"), "{usual}");
    assert!(small.contains("moments 8bit, weights stochastic"), "{small}");
    for part in ["weights", "optimizer"] {
        assert_ne!(of(&usual, part), of(&small, part), "{part}");
        assert!(!of(&small, part).is_empty());
    }
}
