//! Kernel launches on the first WGPU device, a software one too, as cubecl's log counts them. Without a device nothing is
//! counted.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;
use std::process::Command;

use program::succeed;
use serde_json::json;

/// Tensors of a layer, each of which AdamW updates.
const TENSORS: usize = 11;

/// A folder with the shape of a small model, and the file that turns the log on.
fn shape(layers: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "qwen3", "hidden_size": 48, "num_hidden_layers": layers, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 80, "vocab_size": 211, "tie_word_embeddings": true
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let log = "[profiling]\nlogger = { level = \"minimal\", file = \"launches.log\" }\n";
    fs::write(folder.path().join("cubecl.toml"), log).unwrap();
    folder
}

/// The launches of a bench, after one that has chosen kernels.
fn launches(folder: &Path, options: &[&str], kernels: &str) -> usize {
    let log = folder.join("launches.log");
    for _ in 0..2 {
        fs::remove_file(&log).ok();
        let output = Command::new(env!("CARGO_BIN_EXE_bupo"))
            .args(["bench", "--device", "wgpu", "--dtype", "f32", "--shape", ".", "--json"])
            .args(options)
            .current_dir(folder)
            .env("BUPO_KERNELS", kernels)
            .output()
            .unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::read_to_string(log).unwrap().lines().count()
}

/// The launches of one of `difference` more units of work.
fn each(folder: &Path, more: &[&str], less: &[&str], difference: usize, kernels: &str) -> usize {
    (launches(folder, more, kernels) - launches(folder, less, kernels)).div_ceil(difference)
}

fn decode_step(folder: &Path, kernels: &str) -> usize {
    let rollout =
        |new| ["--mode", "rollout", "--batch", "4", "--group", "2", "--seq", "5", "--runs", "1", "--new", new];
    // The warm-up and one run, eight tokens each.
    each(folder, &rollout("17"), &rollout("9"), 2 * 8, kernels)
}

fn update(folder: &Path, kernels: &str) -> usize {
    let train = |runs| ["--mode", "train", "--batch", "3", "--seq", "40", "--runs", runs];
    each(folder, &train("3"), &train("1"), 2, kernels)
}

#[test]
fn launches_stay_few() {
    let devices = succeed(&["devices"]);
    if !devices.lines().any(|line| line.starts_with("wgpu") && !line.contains("not usable")) {
        println!("no WGPU device: nothing is counted");
        return;
    }
    let (few, many) = (shape(2), shape(4));
    let steps = [&few, &many].map(|folder| decode_step(folder.path(), "on"));
    let updates = [&few, &many].map(|folder| update(folder.path(), "on"));
    let layer = (steps[1] - steps[0]) / 2;
    let training_layer = (updates[1] - updates[0]) / 2 - 2 * TENSORS;
    println!("decode: {layer} a layer and {}; training: {training_layer} a layer", steps[0] - 2 * layer);
    println!("updates: {updates:?}");
    if std::env::var_os("BUPO_COUNT_BOTH").is_some() {
        let steps = [&few, &many].map(|folder| decode_step(folder.path(), "off"));
        let updates = [&few, &many].map(|folder| update(folder.path(), "off"));
        println!("with BUPO_KERNELS=off: decode steps {steps:?}, updates {updates:?}");
    }
    assert!(steps[1] <= 11 * 4 + 10, "{steps:?}");
    assert!(training_layer <= 60, "{updates:?}");
}
