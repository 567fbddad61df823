//! The program's output files and its errors for bad input.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use program::{fail, fixture, lines, succeed, text};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Settings of a short run of three steps.
const SHORT: [&str; 16] = [
    "--set",
    "phases.0.steps=2",
    "--set",
    "phases.1.steps=1",
    "--set",
    "rollout.prompts=4",
    "--set",
    "update.mini_batch_prompts=2",
    "--set",
    "rollout.group_size=4",
    "--set",
    "rollout.max_new_tokens=12",
    "--set",
    "evaluation.problems=4",
    "--set",
    "evaluation.samples=2",
];

fn short_run(out: &Path, more: &[&str]) -> String {
    succeed(&[&["train", "--out", text(out)], &SHORT[..], more].concat())
}

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
fn trace_writes_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("trace.safetensors");
    let model = fixture("qwen2-untied-sharded-bf16");
    let tokens = model.join("tokens.json");
    succeed(&["trace", "--model", text(&model), "--tokens", text(&tokens), "--out", text(&out)]);
    let (ours, theirs) = (fs::read(&out).unwrap(), fs::read(model.join("expected.safetensors")).unwrap());
    let (ours, theirs) = (SafeTensors::deserialize(&ours).unwrap(), SafeTensors::deserialize(&theirs).unwrap());
    for (name, view) in theirs.tensors().into_iter().filter(|(name, _)| !name.starts_with("log_probs")) {
        assert_eq!(ours.tensor(&name).unwrap().shape(), view.shape(), "{name}");
        assert_eq!(ours.tensor(&name).unwrap().dtype(), Dtype::F32);
    }
}

#[test]
fn generate_writes_generated_tokens_only() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, out) = (folder.path().join("ids.json"), folder.path().join("out.json"));
    let model = fixture("qwen3-tied");
    let reference: Value = serde_json::from_slice(&fs::read(model.join("generate.json")).unwrap()).unwrap();
    fs::write(&tokens, reference["prompts"].to_string()).unwrap();
    for site in ["full", "layer:2"] {
        let args = ["generate", "--model", text(&model), "--tokens", text(&tokens), "--policy", site];
        let more = ["--temperature", "0", "--max-new-tokens", "12", "--ignore-eos", "--json", text(&out)];
        succeed(&[&args[..], &more].concat());
        let written: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
        assert_eq!(written["tokens"], reference[site]["tokens"], "{site}");
        assert_eq!(written["log_probs"].as_array().unwrap().len(), 4);
    }
}

#[test]
fn generate_is_deterministic_with_the_embedded_model() {
    let args = ["generate", "--prompt", "7+5=", "--temperature", "0"];
    assert_eq!(succeed(&args), succeed(&args));
    assert!(succeed(&args).starts_with("7+5="));
}

#[test]
fn replay_writes_a_checkpoint_and_its_updates() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let model = fixture("qwen3-tied");
    let rollouts = model.join("rollouts.jsonl");
    let args = ["replay", "--model", text(&model), "--rollouts", text(&rollouts), "--policy", "layer:2"];
    let args = [&args[..], &["--updates", "2", "--lr", "3e-4", "--out", text(&out)]].concat();
    succeed(&args);
    let reference: Value = serde_json::from_slice(&fs::read(model.join("replay.layer2.json")).unwrap()).unwrap();
    let updates = lines(&out.join("updates.jsonl"));
    assert_eq!(updates.len(), 2);
    for (ours, theirs) in updates.iter().zip(reference["updates"].as_array().unwrap()) {
        for name in ["loss", "grad_norm"] {
            let (ours, theirs) = (ours[name].as_f64().unwrap(), theirs[name].as_f64().unwrap());
            assert!((ours / theirs - 1.0).abs() < 1e-4, "{name}: {ours} for {theirs}");
        }
    }
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), 46);
    assert!(out.join("config.json").exists());
    assert!(fail(&args).contains("exists and is not empty"));
}

#[test]
fn train_writes_a_run_folder_and_is_reproducible_by_seed() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b, c) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
    let screen = short_run(&a, &[]);
    for expected in ["phase 1", "layer:", "phase 2", "Avg@2", "Pass@2", "before", "after", "metrics.jsonl"] {
        assert!(screen.contains(expected), "{expected}: {screen}");
    }
    short_run(&b, &[]);
    short_run(&c, &["--seed", "1"]);
    let weights = |run: &Path| fs::read(run.join("model/model.safetensors")).unwrap();
    assert_eq!(weights(&a), weights(&b));
    assert_ne!(weights(&a), weights(&c));
    for file in ["config.toml", "completions.jsonl", "evaluation.json", "model/config.json", "model/tokenizer.json"] {
        assert!(a.join(file).exists(), "{file}");
    }

    let metrics = lines(&a.join("metrics.jsonl"));
    assert_eq!(metrics.len(), 3);
    let names = [
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "entropy",
        "kl",
        "grad_norm",
        "clip_ratio",
        "response_length",
        "tokens_per_second",
    ];
    for (index, line) in metrics.iter().enumerate() {
        assert_eq!(line["step"], index + 1);
        assert_eq!(line["phase"], if index < 2 { 1 } else { 2 });
        assert_eq!(line["site"].as_str().unwrap() == "full", index == 2);
        assert_eq!(line["first_ratio"], 1.0, "the first update of step {} starts at ratio 1", index + 1);
        assert!(names.iter().all(|name| line[name].is_number()), "{line}");
    }

    // The trained model is a usable model folder, and the run's config.toml reproduces the run.
    succeed(&["generate", "--model", text(&a.join("model")), "--prompt", "1+1="]);
    let d = folder.path().join("d");
    succeed(&["train", "--out", text(&d), "--config", text(&a.join("config.toml"))]);
    assert_eq!(weights(&a), weights(&d));
}

#[test]
fn grpo_trains_the_full_policy_on_the_same_number_of_steps() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    short_run(&out, &["--algorithm", "grpo"]);
    let metrics = lines(&out.join("metrics.jsonl"));
    assert!(metrics.len() == 3 && metrics.iter().all(|line| line["site"] == "full"));
}

#[test]
fn pretrain_writes_a_model_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let sizes = ["--steps", "2", "--batch", "4", "--hidden", "64", "--layers", "1"];
    succeed(&[&["warmup", "--out", text(&out)], &sizes[..]].concat());
    succeed(&["generate", "--model", text(&out), "--prompt", "1+1=", "--max-new-tokens", "2"]);
    assert!(fail(&["warmup", "--out", text(&out)]).contains("exists and is not empty"));
    assert!(fail(&["warmup", "--out", text(&folder.path().join("x")), "--hidden", "100"]).contains("multiple of 64"));
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
    for (length, expected) in [(whole.len() - 1, "truncated"), (200, "header"), (3, "too few"), (0, "too few")] {
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

#[test]
fn lens_shows_every_layer_at_every_position() {
    let shown = succeed(&["lens", "7+5=", "--top", "2"]);
    for expected in ["norm none", "1 \"7\"", "4 \"=\"", "layer:6", "full"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lens.json");
    succeed(&["lens", "7+5=", "--top", "2", "--norm", "final", "--json", text(&path)]);
    let lens: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let positions = lens["positions"].as_array().unwrap();
    assert_eq!((positions.len(), lens["norm"].as_str()), (4, Some("final")));
    for position in positions {
        let sites = position["sites"].as_array().unwrap();
        assert_eq!(sites.len(), 7);
        assert_eq!(sites[5]["top"], sites[6]["top"], "the last layer with the final norm is the full policy");
    }
    assert!(fail(&["lens", ""]).contains("no tokens"));
    assert!(fail(&["lens", "1", "--top", "0"]).contains("--top"));
}

#[test]
fn generate_compares_policies_side_by_side() {
    let args = ["generate", "--prompt", "7+5=", "--temperature", "0", "--compare", "full,layer:3,ffn:6"];
    let shown = succeed(&args);
    let [prompt, names, _, ..] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert_eq!(prompt, "7+5=");
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["full", "layer:3", "ffn:6"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    succeed(&[&args[..], &["--json", text(&path)]].concat());
    let by_site: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let alone = folder.path().join("alone.json");
    let layer = ["generate", "--prompt", "7+5=", "--temperature", "0", "--policy", "layer:3", "--json", text(&alone)];
    succeed(&layer);
    assert_eq!(by_site["layer:3"], serde_json::from_slice::<Value>(&fs::read(&alone).unwrap()).unwrap());
    assert!(fail(&["generate", "--prompt", "1", "--compare", "full,layer:9"]).contains("layer:9"));
}

#[test]
fn bench_reports_throughput_roofline_and_profile() {
    let shape = fixture("qwen3-tied");
    let small = ["--batch", "3", "--seq", "5", "--new", "2", "--group", "2", "--runs", "2", "--layer", "1"];
    for mode in ["train", "phase1", "rollout", "analyze", "measure"] {
        let args = [&["bench", "--shape", text(&shape), "--mode", mode, "--json", "--profile"], &small[..]].concat();
        let line: Value = serde_json::from_str(&succeed(&args)).unwrap();
        let result = &line["result"];
        let tokens = if mode == "rollout" { 6 } else { 15 };
        assert_eq!(result["tokens"], tokens, "{mode}");
        assert_eq!(result["seconds"].as_array().unwrap().len(), 2);
        let number = |name: &str| result[name].as_f64().unwrap();
        assert!(number("tokens_per_second_min") <= number("tokens_per_second"));
        assert!(number("tokens_per_second") <= number("tokens_per_second_max"));
        assert!(result["floor"]["operations"].as_f64().unwrap() > 0.0 && number("of_floor") > 0.0);
        let parts = result["profile"].as_array().unwrap();
        let seconds = |part: &str| parts.iter().find(|p| p[0] == part).unwrap()[1].as_f64().unwrap();
        assert!(seconds("matrix products") > 0.0, "{mode}");
        assert_eq!(seconds("optimizer") > 0.0, ["train", "phase1"].contains(&mode), "{mode}");
        assert_eq!(seconds("sampling") > 0.0, mode == "rollout", "{mode}");
    }
    assert!(fail(&["bench", "--shape", "nothing"]).contains("small, vocab, qwen3-0.6b"));
    assert!(fail(&["bench", "--shape", text(&shape), "--layer", "99"]).contains("layer 99"));
    assert!(fail(&["bench", "--shape", text(&shape), "--batch", "0"]).contains("at least 1"));
}

#[test]
fn generate_restricts_sampling_and_stops_at_texts() {
    let sample = |more: &[&str]| {
        let args = ["generate", "--prompt", "7+5=", "--max-new-tokens", "8", "--ignore-eos", "--temperature", "2"];
        succeed(&[&args[..], more].concat())
    };
    let greedy =
        succeed(&["generate", "--prompt", "7+5=", "--max-new-tokens", "8", "--ignore-eos", "--temperature", "0"]);
    assert_ne!(sample(&[]), greedy);
    for restriction in [["--top-k", "1"], ["--top-p", "1e-9"], ["--min-p", "1"]] {
        assert_eq!(sample(&restriction), greedy, "{restriction:?}");
    }
    assert_ne!(sample(&["--top-k", "1", "--repetition-penalty", "100"]), greedy);
    for (option, value) in [("--top-p", "0"), ("--min-p", "2"), ("--repetition-penalty", "0")] {
        assert!(fail(&["generate", "--prompt", "1", option, value]).contains(&option[2..].replace('-', "_")));
    }
    let response = &greedy.trim_end()["7+5=".len()..];
    let stop = &response[1..2];
    let end = response.find(stop).unwrap();
    assert_eq!(sample(&["--top-k", "1", "--stop", stop]).trim_end(), format!("7+5={}", &response[..end]));
    assert!(fail(&["generate", "--prompt", "1", "--stop", ""]).contains("stop"));
}

#[test]
fn recommended_sampling_and_the_position_limit_come_from_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/arithmetic-1m");
    for entry in fs::read_dir(embedded).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&entry, folder.path().join(entry.file_name().unwrap())).unwrap();
    }
    let edit = |file: &str, changes: &[(&str, Value)]| {
        let path = folder.path().join(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        changes.iter().for_each(|(key, value)| json[*key] = value.clone());
        fs::write(&path, json.to_string()).unwrap();
    };
    edit("generation_config.json", &[("top_k", json!(1)), ("temperature", json!(3.0))]);
    edit("config.json", &[("max_position_embeddings", json!(12))]);
    let args =
        ["generate", "--model", text(folder.path()), "--prompt", "7+5=", "--max-new-tokens", "8", "--ignore-eos"];
    let greedy = succeed(&[&args[..], &["--temperature", "0"]].concat());
    assert_eq!(succeed(&[&args[..], &["--recommended-sampling"]].concat()), greedy);
    assert_ne!(succeed(&[&args[..], &["--recommended-sampling", "--top-k", "0"]].concat()), greedy);
    let stderr = |args: &[&str]| String::from_utf8(program::bupo(args).stderr).unwrap();
    assert_eq!(stderr(&args), "");
    let longer = [&args[..6], &["9"]].concat();
    let warning = stderr(&longer);
    assert!(warning.contains("13 tokens") && warning.contains("supports 12"), "{warning}");
}
