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
