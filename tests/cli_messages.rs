//! What the program says of wrong input: where it is, and what to do.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;

use program::{fail, fixture, text};

#[test]
fn messages_say_where_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    };
    let sums = file("sums.jsonl", b"{\"question\": \"1+1=\", \"answer\": 2}\n");
    let other = file("other.jsonl", b"{\"q\": \"1+1=\", \"a\": 2}\n");
    let empty = file("empty.jsonl", b"");
    let latin = file("latin.txt", b"\xff\n");
    let (sums, nowhere) = (text(&sums), text(&folder.path().join("no/out.jsonl")).to_string());
    for (args, expected) in [
        (&["eval", "--data", text(folder.path())][..], "Is a directory; give a file, not a folder"),
        (&["eval", "--data", sums, "--samples", "0"], "--samples is 0; it must be at least 1"),
        (&["eval", "--data", sums, "--limit", "0"], "--limit is 0; it must be at least 1"),
        (
            &["eval", "--data", sums, "--prompt-column", "x"],
            "name one of them by data.prompt_column or --prompt-column",
        ),
        (
            &["eval", "--data", text(&other)],
            "it has `q`, `a`: name one of them by data.prompt_column or --prompt-column",
        ),
        (
            &["eval", "--data", sums, "--max-prompt-tokens", "1"],
            "1 tokens (data.max_prompt_tokens, --max-prompt-tokens);",
        ),
        (&["eval", "--completions", text(&empty)], "give the completions.jsonl of an evaluation"),
        (&["analyze", "--completions", text(&empty)], "write {\"prompt\": ..., \"response\": ...} on each line"),
        (&["analyze", "--batch", "0"], "--batch is 0; it must be at least 1"),
        (&["replay", "--rollouts", text(&empty), "--out", &nowhere], "\"reward\": ...} on each line"),
        (&["replay", "--rollouts", sums, "--out", "x", "--updates", "0"], "--updates is 0; it must be at least 1"),
        (&["generate", "--prompts", text(&latin)], "latin.txt: it is not UTF-8; save it as UTF-8"),
        (&["generate", "--prompts", sums, "--out", &nowhere], "/no; create it"),
        (&["generate", "--tokens", sums], "; write [[id, ...], ...]"),
        (&["pretrain", "--out", &nowhere, "--lr", "2"], "--lr is 2; it must be above 0 and at most 1"),
        (&["pretrain", "--out", &nowhere, "--hidden", "30"], "--hidden is 30 and --layers 6"),
        (
            &["bench", "--shape", "tiny"],
            "--shape is `tiny`, which is no folder with a config.json; give one, or one of ",
        ),
        (&["bench", "--batch", "0"], "the benchmark's batch is 0"),
        (&["bench", "--layer", "99"], "the benchmark's layer is 99; it must be from 1 to "),
        (&["train", "--set", "update.mini_batch_prompts=7"], "set one to a multiple of the other"),
    ] {
        let message = fail(args);
        assert!(message.contains(expected), "{args:?}: {message}");
    }
    // A model's files are named with their folder.
    let (tokens, trace) = (fixture("qwen3-tied/tokens.json"), text(&folder.path().join("trace")).to_string());
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    for (config, expected) in [
        (&b"{"[..], "model/config.json: it ends early, in line 1; correct it, or fetch the model again"),
        (b"\xff", "model/config.json: it is not UTF-8"),
        (b"{\"model_type\": \"qwen3\", \"vocab_size\": \"x\"}", "expected a whole number at line 1"),
    ] {
        fs::write(model.join("config.json"), config).unwrap();
        let message = fail(&["trace", "--model", text(&model), "--tokens", text(&tokens), "--out", &trace]);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_damaged_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_string();
    let write = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    };
    write("half.jsonl", "{\"response\": \"1\"");
    write("no-answer.jsonl", "{\"response\": \"1\"}\n");
    write("one/settings.json", "{}");
    write("one/completions.jsonl", "{\"x\n{}\n");
    write("two/completions.jsonl", "");
    write("run/config.toml", "");
    write("run/metrics.jsonl", "{\"step\": 1\n{}\n");
    let grade = |name: &str| fail(&["grade", "--rule", "strict", "--input", &path(name), "--out", &path("out.jsonl")]);
    assert!(grade("half.jsonl").contains("half.jsonl line 1: EOF"), "{}", grade("half.jsonl"));
    assert!(grade("no-answer.jsonl").contains("no-answer.jsonl line 1: there is no `answer`; a line is {"));
    assert!(!folder.path().join("out.jsonl").exists());
    let compared = |one: &str, other: &str| fail(&["eval", "--compare", &path(one), &path(other)]);
    for (one, other, expected) in [
        ("no", "one", "no: it has no completions.jsonl; give the folder of an evaluation by bupo eval"),
        ("one", "one", "one/completions.jsonl line 1: "),
        ("two", "one", "two: it has no settings.json; give the folder of an evaluation by bupo eval"),
    ] {
        let message = compared(one, other);
        assert!(message.contains(expected), "{message}");
    }
    let message = fail(&["report", &path("run")]);
    assert!(message.contains("metrics.jsonl line 1: "), "{message}");
}

#[test]
fn settings_of_a_model_that_cannot_be_used_are_named_with_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let embedded = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/arithmetic-1m");
    for entry in fs::read_dir(&embedded).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let asks = |more: &[&str]| {
        let all = [&["generate", "--prompt", "1+1=", "--model", text(&model)][..], more].concat();
        fail(&all)
    };
    fs::write(model.join("tokenizer_config.json"), "{\n").unwrap();
    let message = asks(&["--chat"]);
    assert!(message.contains("model/tokenizer_config.json: ") && message.contains("line 2"), "{message}");
    let config: serde_json::Value = serde_json::from_slice(&fs::read(embedded.join("config.json")).unwrap()).unwrap();
    for (rope, expected) in [
        ("{\"rope_type\": \"foo\"}", "model/config.json: rope type `foo` is not supported; use default, linear"),
        ("{\"rope_type\": \"linear\"}", "model/config.json: linear rope scaling needs factor"),
        (
            "{\"rope_type\": \"yarn\", \"factor\": 0.1}",
            "model/config.json: yarn rope scaling: factor is 0.1; it must be at least 1",
        ),
    ] {
        let mut config = config.clone();
        config.as_object_mut().unwrap().remove("rope_parameters");
        config["rope_scaling"] = serde_json::from_str(rope).unwrap();
        fs::write(model.join("config.json"), config.to_string()).unwrap();
        let message = asks(&[]);
        assert!(message.contains(expected), "{message}");
    }
    let mut other = config.clone();
    other["model_type"] = "gpt2".into();
    fs::write(model.join("config.json"), other.to_string()).unwrap();
    let message = asks(&[]);
    assert!(message.contains("model/config.json: model_type `gpt2` is not supported; use a qwen3"), "{message}");
    for (reward, expected) in [
        ("reward.rule=[{rule=\"strict\",weight=0}]", "the weights 0; give some from 0 to 1,000,000, not all of them 0"),
        ("reward.rule=[{rule=\"strict\",weight=-1}]", "the weights -1; give some from 0 to 1,000,000"),
    ] {
        let message = fail(&["train", "--set", reward]);
        assert!(message.contains(expected), "{message}");
    }
}
