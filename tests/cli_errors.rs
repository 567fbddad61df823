//! The program's errors for bad input.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use program::{fail, fixture, text};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A model folder with changed tensors.
fn with_changed_tensors(change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>)) -> TempDir {
    let initial_policy = fixture("qwen3-tied");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(initial_policy.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = fs::read(initial_policy.join("model.safetensors")).unwrap();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            (name, (view.shape().to_vec(), values))
        })
        .collect();
    change(&mut tensors);
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (shape, values))| (name, shape, values.into_iter().flat_map(f32::to_le_bytes).collect()))
        .collect();
    let views =
        stored.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

/// The error of `trace` for a model folder.
fn trace_error(folder: &Path) -> String {
    let out = tempfile::tempdir().unwrap();
    let tokens = fixture("qwen3-tied/tokens.json");
    fail(&["trace", "--model", text(folder), "--tokens", text(&tokens), "--out", text(&out.path().join("x"))])
}

#[test]
fn missing_and_damaged_weights_are_errors() {
    assert!(trace_error(Path::new("/no/such/folder")).contains("there is no such folder"));
    let folder = tempfile::tempdir().unwrap();
    assert!(trace_error(folder.path()).contains("config.json"));
    fs::copy(fixture("qwen3-tied/config.json"), folder.path().join("config.json")).unwrap();
    assert!(trace_error(folder.path()).contains("neither model.safetensors nor"));
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    assert!(trace_error(folder.path()).contains("pickled weights"));

    let whole = fs::read(fixture("qwen3-tied/model.safetensors")).unwrap();
    for (length, expected) in
        [(whole.len() - 1, "bytes of tensors, but the file has"), (200, "header"), (3, "too few"), (0, "too few")]
    {
        fs::write(folder.path().join("model.safetensors"), &whole[..length]).unwrap();
        let message = trace_error(folder.path());
        assert!(message.contains(expected) && message.contains("model.safetensors"), "{length}: {message}");
    }
    let mut nonsense = whole.clone();
    nonsense[8..40].fill(b'#');
    fs::write(folder.path().join("model.safetensors"), &nonsense).unwrap();
    assert!(trace_error(folder.path()).contains("damaged"));
}

#[test]
fn weights_that_contradict_the_config_are_errors() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let wrong_shape = with_changed_tensors(|tensors| {
        let (shape, _) = tensors.get_mut(name).unwrap();
        shape.reverse();
    });
    let message = trace_error(wrong_shape.path());
    assert!(message.contains(name) && message.contains("[40, 72]") && message.contains("[72, 40]"), "{message}");

    let missing = with_changed_tensors(|tensors| drop(tensors.remove(name)));
    let message = trace_error(missing.path());
    assert!(message.contains(name) && message.contains("missing"), "{message}");

    let surplus =
        with_changed_tensors(|tensors| drop(tensors.insert("model.layers.9.extra".into(), (vec![1], vec![0.0]))));
    let message = trace_error(surplus.path());
    assert!(message.contains("surplus") && message.contains("model.layers.9.extra"), "{message}");

    let nan = with_changed_tensors(|tensors| tensors.get_mut(name).unwrap().1[5] = f32::NAN);
    let message = trace_error(nan.path());
    assert!(message.contains(name) && message.contains("NaN") && message.contains("element 5"), "{message}");

    let untied = with_changed_tensors(|tensors| {
        let (shape, mut values) = tensors["model.embed_tokens.weight"].clone();
        values[0] += 1.0;
        tensors.insert("lm_head.weight".into(), (shape, values));
    });
    assert!(trace_error(untied.path()).contains("tie_word_embeddings"));
}

#[test]
fn shards_that_contradict_the_index_are_errors() {
    let initial_policy = fixture("qwen2-untied-sharded-bf16");
    let copy = || {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&initial_policy).unwrap().map(|entry| entry.unwrap().path()) {
            fs::copy(&entry, folder.path().join(entry.file_name().unwrap())).unwrap();
        }
        folder
    };
    let edit = |folder: &Path, change: &dyn Fn(&mut Value)| {
        let path = folder.join("model.safetensors.index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut index);
        fs::write(&path, index.to_string()).unwrap();
    };
    let norm = "model.norm.weight";

    let folder = copy();
    edit(folder.path(), &|index| index["weight_map"][norm] = json!("../elsewhere.safetensors"));
    assert!(trace_error(folder.path()).contains("not the name of a safetensors file in this folder"));

    let folder = copy();
    edit(folder.path(), &|index| drop(index["weight_map"].as_object_mut().unwrap().remove(norm)));
    assert!(trace_error(folder.path()).contains("the index does not say so"));

    let folder = copy();
    edit(folder.path(), &|index| index["weight_map"]["model.more"] = index["weight_map"][norm].clone());
    assert!(trace_error(folder.path()).contains("not in shard"));

    let folder = copy();
    let shard = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "safetensors") && text(path).contains("-of-"))
        .unwrap();
    fs::remove_file(&shard).unwrap();
    assert!(trace_error(folder.path()).contains(shard.file_name().unwrap().to_str().unwrap()));
}

#[test]
fn bad_tokens_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, out) = (folder.path().join("ids.json"), folder.path().join("out"));
    let model = fixture("qwen3-tied");
    for (content, expected) in [
        ("[[1, 2], [3, 151]]", "token id 151 (row 2, position 2) is outside the model's vocabulary of 151"),
        ("[[1, 2], [3]]", "rows of equal length"),
        ("[[1], []]", "row 2 has no tokens"),
        ("[]", "there are no rows"),
        ("[[1, -2]]", "not rows of token ids"),
        ("{", "not rows of token ids"),
        ("", "not rows of token ids"),
    ] {
        fs::write(&tokens, content).unwrap();
        let message = fail(&["trace", "--model", text(&model), "--tokens", text(&tokens), "--out", text(&out)]);
        assert!(message.contains(expected), "{content}: {message}");
    }
    fs::write(&tokens, "[[1, 999]]").unwrap();
    assert!(fail(&["generate", "--model", text(&model), "--tokens", text(&tokens)]).contains("token id 999"));
    let missing = folder.path().join("missing.json");
    assert!(fail(&["generate", "--model", text(&model), "--tokens", text(&missing)]).contains("missing.json"));
    assert!(fail(&["generate", "--model", text(&model), "--prompt", "hi"]).contains("tokenizer.json"));
}

#[test]
fn bad_rollouts_are_errors_with_line_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (rollouts, out) = (folder.path().join("rollouts.jsonl"), folder.path().join("out"));
    let good = r#"{"group": 0, "prompt": [1], "response": [3, 2], "reward": 1.0}"#;
    for (second, expected) in [
        (r#"{"group": 0, "prompt": [1], "response": [3, 2]"#, "line 2"),
        (r#"{"group": 0, "prompt": [1], "response": [3, 2]}"#, "missing field `reward`"),
        (r#"{"group": 0, "prompt": [], "response": [3], "reward": 0}"#, "prompt has no tokens"),
        (r#"{"group": 0, "prompt": [1], "response": [], "reward": 0}"#, "response has no tokens"),
        (r#"{"group": 0, "prompt": [1], "response": [500], "reward": 0}"#, "token id 500"),
        (r#"{"group": 0, "prompt": [1], "response": [5], "reward": "x"}"#, "line 2"),
        (r#"{"group": 0, "prompt": [1], "response": [5], "reward": 1e200}"#, "reward is 1e200"),
        (" ", "the line is empty"),
    ] {
        fs::write(&rollouts, format!("{good}\n{second}\n{good}\n")).unwrap();
        let model = fixture("qwen3-tied");
        let message = fail(&["replay", "--model", text(&model), "--rollouts", text(&rollouts), "--out", text(&out)]);
        assert!(message.contains("rollouts.jsonl line 2") && message.contains(expected), "{second}: {message}");
        assert!(!out.exists(), "the input is checked before the folder is created");
    }
    fs::write(&rollouts, "").unwrap();
    let model = fixture("qwen3-tied");
    let args = ["replay", "--model", text(&model), "--rollouts", text(&rollouts), "--out", text(&out)];
    assert!(fail(&args).contains("no rollouts"));
    fs::write(&rollouts, good).unwrap();
    assert!(fail(&[&args[..], &["--policy", "layer:5"]].concat()).contains("layers 1 to 4"));
    assert!(fail(&[&args[..], &["--lr", "-1"]].concat()).contains("--lr is -1"));
    assert!(fail(&[&args[..], &["--lr", "1e39"]].concat()).contains("at most 1"));
}

#[test]
fn bad_settings_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (pair, expected) in [
        ("rollout.promts=3", "promts"),
        ("phases.0.site=layer:40", "layer:40"),
        ("update.mini_batch_prompts=5", "does not divide"),
        ("phases.0.site=middle", "middle"),
    ] {
        let message = fail(&["train", "--out", text(&out), "--set", pair]);
        assert!(message.contains(expected), "{pair}: {message}");
        assert!(!out.exists(), "{pair}");
    }
    let config = folder.path().join("config.toml");
    for (content, expected) in
        [("seed = 'x'", "config.toml"), ("[rollout]\nprompt = 3", "prompt"), ("[", "config.toml")]
    {
        fs::write(&config, content).unwrap();
        let message = fail(&["train", "--out", text(&out), "--config", text(&config)]);
        assert!(message.contains(expected), "{content}: {message}");
    }
    assert!(fail(&["train", "--config", "/no/such.toml"]).contains("/no/such.toml"));
}

#[test]
fn folders_that_exist_or_cannot_be_written_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("existing"), "data").unwrap();
    assert!(fail(&["train", "--out", text(folder.path())]).contains("exists and is not empty"));
    assert_eq!(fs::read_to_string(folder.path().join("existing")).unwrap(), "data");
    let under_a_file = folder.path().join("existing/run");
    assert!(fail(&["train", "--out", text(&under_a_file)]).contains("cannot create"));
    let tokens = fixture("qwen3-tied/tokens.json");
    let model = fixture("qwen3-tied");
    let nowhere = folder.path().join("no/such/folder/out");
    let message = fail(&["trace", "--model", text(&model), "--tokens", text(&tokens), "--out", text(folder.path())]);
    assert!(message.contains("not a regular file"));
    for args in [
        ["trace", "--model", text(&model), "--tokens", text(&tokens), "--out", text(&nowhere)],
        ["generate", "--model", text(&model), "--tokens", text(&tokens), "--json", text(&nowhere)],
    ] {
        assert!(fail(&args).contains("there is no folder"));
    }
}

#[test]
fn missing_devices_are_errors() {
    let with_device = |device: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_bupo"))
            .args(["generate", "--prompt", "1+1=", "--max-new-tokens", "1", "--device", device])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(with_device("ndarray").0);
    assert!(with_device("auto").0);
    assert!(with_device("tpu").1.contains("unknown device"));
    let (success, message) = with_device("cuda:99");
    assert!(!success && message.starts_with("error: ") && !message.contains("panicked"), "{message}");
    let (success, message) = with_device("wgpu:99");
    assert!(!success && message.starts_with("error: ") && !message.contains("panicked"), "{message}");
}
