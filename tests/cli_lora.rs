//! Adapters and frozen parameters at the command line.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use program::runs::{arguments, assert_same_run, fail_last_line, interrupted, newest_checkpoint, whole_run};
use program::{fail, succeed, text};
use safetensors::SafeTensors;

const LORA: [&str; 2] = ["lora.rank=4", "optimizer.learning_rate=1e-3"];

fn embedded() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/arithmetic-1m")
}

/// The bytes of every tensor of a file, with its dtype.
fn tensors(path: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, (format!("{:?}", view.dtype()), view.data().to_vec())))
        .collect()
}

fn logits(model: &[&str], folder: &Path) -> Vec<f32> {
    let (ids, out) = (folder.join("ids.json"), folder.join("trace.safetensors"));
    fs::write(&ids, "[[1, 3, 5, 7, 4, 6]]").unwrap();
    succeed(&[&["trace", "--tokens", text(&ids), "--out", text(&out)], model].concat());
    let bytes = tensors(&out)["logits"].1.clone();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn an_adapter_is_trained_resumed_merged_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &LORA);
    let adapter = whole.join("adapter");
    assert!(!whole.join("model").exists(), "a run of an adapter saves no model");
    let trained = tensors(&adapter.join("adapter_model.safetensors"));
    assert_eq!(trained.len(), 6 * 7 * 2);
    assert!(trained.values().all(|(dtype, _)| dtype == "F32"));
    let changed = |layer: usize| {
        let name = format!("base_model.model.model.layers.{layer}.self_attn.q_proj.lora_B.weight");
        trained[&name].1.iter().any(|byte| *byte != 0)
    };
    assert!((0..6).all(changed), "the full policy's phase trains every layer");
    let moments = tensors(&newest_checkpoint(&whole).join("optimizer.safetensors"));
    assert_eq!(moments.len(), 2 * trained.len(), "moments of the adapter alone");

    for step in [1, 6, 7] {
        let run = interrupted(&whole, &folder, step);
        succeed(&["train", "--resume", text(&run)]);
        assert_same_run(&whole, &run, &format!("after step {step}"));
    }

    let merged = folder.path().join("merged");
    succeed(&["merge", "--adapter", text(&adapter), "--out", text(&merged), "--save-dtype", "f32"]);
    let plain = logits(&[], folder.path());
    let with_adapter = logits(&["--adapter", text(&adapter)], folder.path());
    let size = plain.iter().fold(1.0_f32, |size, value| size.max(value.abs()));
    assert!(difference(&logits(&["--model", text(&merged)], folder.path()), &with_adapter) < 1e-4 * size);
    assert!(difference(&plain, &with_adapter) > 1e-3, "training has changed the logits");

    let generate = |more: &[&str]| succeed(&[&["generate", "--prompt", "1+2=", "--temperature", "0"], more].concat());
    assert_eq!(generate(&["--adapter", text(&adapter)]), generate(&["--model", text(&merged)]));

    // A run that starts from the adapter, and one that merges it first.
    let adapter_setting = format!("adapter={}", text(&adapter));
    let again = folder.path().join("again");
    succeed(&arguments(&again, &["lora.rank=4", "phases.0.steps=1", "phases.1.steps=0", &adapter_setting]));
    let later = tensors(&again.join("adapter/adapter_model.safetensors"));
    let above = "base_model.model.model.layers.4.self_attn.q_proj.lora_A.weight";
    assert_eq!(later[above], trained[above], "layers above the site are as they were");
    let message = fail_last_line(&arguments(&folder.path().join("other"), &["lora.rank=8", &adapter_setting]));
    assert!(message.contains("lora.rank is 8") && message.contains("has 4"), "{message}");
    let message = fail_last_line(&["train", "--fork", text(&whole), "--set", "lora.rank=0"]);
    assert!(message.contains("checkpoint is of an adapter"), "{message}");
}

#[test]
fn an_internal_phase_trains_the_adapters_below_its_site_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let settings = ["lora.rank=2", "lora.targets=['q_proj', 'down_proj']", "phases.0.site=layer:2", "phases.1.steps=0"];
    succeed(&arguments(&run, &settings));
    let moments = tensors(&newest_checkpoint(&run).join("optimizer.safetensors"));
    assert_eq!(moments.len(), 2 * 2 * 2 * 2, "two moments of A and B of two maps of two layers");
    let trained = tensors(&run.join("adapter/adapter_model.safetensors"));
    for (name, (_, bytes)) in trained.iter().filter(|(name, _)| name.contains("lora_B")) {
        let below = ["layers.0.", "layers.1."].iter().any(|layer| name.contains(layer));
        assert_eq!(bytes.iter().any(|byte| *byte != 0), below, "{name}");
    }
}

#[test]
fn frozen_parameters_keep_their_bits_and_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let settings = [
        "train.parameters.layers=2-3",
        "train.parameters.modules=['attn', 'norm']",
        "train.parameters.embedding=false",
        "train.parameters.unembedding=false",
        "save_dtype=f32",
    ];
    let check = succeed(&[&["config", "check"], &settings.map(|s| ["--set", s]).concat()[..]].concat());
    assert!(check.contains(" M parameters: attn, norm of layers 2-3"), "{check}");
    succeed(&arguments(&run, &settings));
    let [before, after] = [embedded(), run.join("model")].map(|folder| tensors(&folder.join("model.safetensors")));
    let as_f32 = |(dtype, bytes): &(String, Vec<u8>)| -> Vec<f32> {
        match dtype.as_str() {
            "F32" => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            _ => bytes
                .chunks_exact(2)
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16))
                .collect(),
        }
    };
    let mut trained = 0;
    for (name, values) in &after {
        let is_trained = ["layers.1.", "layers.2."].iter().any(|layer| name.contains(layer)) && !name.contains("mlp.");
        assert_eq!(as_f32(values) != as_f32(&before[name]), is_trained, "{name}");
        trained += usize::from(is_trained);
    }
    let moments = tensors(&newest_checkpoint(&run).join("optimizer.safetensors"));
    assert_eq!(moments.len(), 2 * trained, "moments of the trained parameters alone");
    for step in [1, 7] {
        let resumed = interrupted(&run, &folder, step);
        succeed(&["train", "--resume", text(&resumed)]);
        assert_same_run(&run, &resumed, &format!("after step {step}"));
    }
}

#[test]
fn dropout_is_the_same_in_a_resumed_run() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &["lora.rank=2", "lora.dropout=0.2"]);
    let run = interrupted(&whole, &folder, 5);
    succeed(&["train", "--resume", text(&run)]);
    assert_same_run(&whole, &run, "with dropout");
}

#[test]
fn what_cannot_be_trained_is_refused_before_the_run() {
    for (settings, expected) in [
        (vec!["lora.alpha=8"], "lora.rank is 0"),
        (vec!["lora.rank=4", "lora.dropout=1.0"], "lora.dropout is 1"),
        (vec!["lora.rank=4", "lora.targets=['lm_head']"], "lora.targets"),
        (vec!["lora.rank=4", "lora.layers=5-9"], "the model has layers 1 to 6"),
        (vec!["lora.rank=4", "lora.layers=4-6"], "phase 1 trains layer:3"),
        (vec!["lora.rank=4", "train.parameters.embedding=false"], "no effect with [lora]"),
        (vec!["train.parameters.layers=9"], "names layer 9"),
        (vec!["train.parameters.layers=0"], "numbers and ranges from 1"),
        (vec!["train.parameters=some"], "\"all\", or a table"),
    ] {
        let pairs: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let message = fail(&[&["config", "check"], &pairs[..]].concat());
        assert!(message.contains(expected), "{settings:?}: {message}");
    }
    let folder = tempfile::tempdir().unwrap();
    let message = fail(&["generate", "--prompt", "1", "--adapter", text(folder.path())]);
    assert!(message.contains("adapter_config.json"), "{message}");
}

/// The recipes of adapters fit the GPUs that they are for, even with the CPU's activations in f32.
#[test]
fn the_recipes_of_adapters_fit_their_gpus() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let folder = tempfile::tempdir().unwrap();
    for (name, limit, hidden, inner, layers, heads) in [
        ("qwen3-0.6b", "8GB", 1024, 3072, 28, 16),
        ("qwen3-1.7b", "16GB", 2048, 6144, 28, 16),
        ("qwen3-4b", "24GB", 2560, 9728, 36, 32),
    ] {
        let config = serde_json::json!({
            "model_type": "qwen3", "vocab_size": 151936, "hidden_size": hidden, "intermediate_size": inner,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128,
            "tie_word_embeddings": true, "torch_dtype": "bfloat16"
        });
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let file = configs.join(format!("{name}-lora.toml"));
        let args = ["config", "check", text(&file), "--model", text(folder.path()), "--memory-limit", limit];
        let shown = succeed(&args);
        assert!(shown.contains("adapters of rank 16") && shown.contains("the run fits"), "{name}: {shown}");
    }
}
