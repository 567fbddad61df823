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

#[test]
fn a_named_backend_of_several_processes_is_not_ignored_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let said = fail(&["train", "--dist-backend", "nccl", "--out", text(&out)]);
    assert!(said.contains("--dist-backend nccl connects NVIDIA GPUs, but the device is cpu"), "{said}");
    assert!(!out.exists());
    if cfg!(not(feature = "mpi")) {
        let said = fail(&["train", "--dist-backend", "mpi", "--out", text(&out)]);
        assert!(said.contains("built without MPI; build it with --features mpi"), "{said}");
    }
}

#[test]
fn settings_are_refused_with_file_line_and_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    for (settings, expected) in [
        ("seed = 1\n[rollout]\npromts = 5\n", "line 3: there is no setting promts in [rollout]; did you mean prompts?"),
        ("[rolout]\nprompts = 4\n", "line 1: there is no setting rolout; did you mean rollout?"),
        (
            "[rollout]\n\nprompts = \"many\"\n",
            "line 3: rollout.prompts is \"many\"; it must be a whole number, 0 or more",
        ),
        ("loss = \"grpoo\"\n", "line 1: loss is \"grpoo\"; did you mean \"grpo\"? it can be "),
        ("[[phases]]\nsite = \"layr:3\"\n", "line 2: phases.site: unknown policy site `layr:3`"),
        ("[rollout\nprompts = 4\n", "line 1: "),
    ] {
        fs::write(&path, settings).unwrap();
        let message = fail(&["config", "check", text(&path)]);
        assert!(message.contains("settings.toml line") && message.contains(expected), "{settings}: {message}");
        assert!(!message.contains('^') && !message.contains("expected one of"), "{message}");
    }
}

#[test]
fn errors_have_no_number_of_the_system() {
    for args in [
        &["config", "check", "no-such-file.toml"][..],
        &["eval", "--data", "no-such-file.jsonl"],
        &["grade", "--completions", "no-such-file.jsonl"],
        &["generate", "--tokens", "no-such-file.json"],
    ] {
        let output = program::bupo(args);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !message.contains("os error"), "{args:?}: {message}");
    }
    assert!(fail(&["config", "check", "no-such-file.toml"]).ends_with("No such file or directory; check the path\n"));
}

#[test]
fn a_missing_run_or_step_is_named_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir_all(run(name).join("checkpoints/step-000020")).unwrap();
        fs::write(run(name).join("config.toml"), "").unwrap();
    }
    let missing = fail(&["train", "--resume", text(&run("three"))]);
    assert!(missing.contains("three does not exist; there is ") && missing.contains("one, "), "{missing}");
    let outside = fail(&["report", text(folder.path())]);
    assert!(outside.contains("has no config.toml") && outside.contains("two"), "{outside}");
    let step = fail(&["train", "--fork", text(&run("one")), "--from-step", "7"]);
    assert!(step.contains("no checkpoint of step 7 (--from-step); there are 20"), "{step}");
    let listed = program::succeed(&["runs", text(&run("one"))]);
    assert!(listed.contains("one"), "{listed}");
    let none = fail(&["runs", text(&run("three"))]);
    assert!(none.contains("is not a folder"), "{none}");
}

#[test]
fn the_version_completions_and_manual_pages_are_of_this_program() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_bupo")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let version = run(&["--version"]);
    assert!(
        version.starts_with("bupo ") && version.contains("features: cpu") && version.contains("  cpu "),
        "{version}"
    );
    assert!(run(&["completions", "bash"]).contains("complete -F _bupo"));
    let folder = tempfile::tempdir().unwrap();
    run(&["man", "--out", text(folder.path())]);
    let page = fs::read_to_string(folder.path().join("bupo-train.1")).unwrap();
    assert!(page.contains("checkpoint"), "{page}");
    // Wrong options have a status of their own.
    let wrong = Command::new(env!("CARGO_BIN_EXE_bupo")).arg("trin").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(Command::new(env!("CARGO_BIN_EXE_bupo")).args(["report", "x"]).output().unwrap().status.code(), Some(1));
}
