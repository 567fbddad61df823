//! `bupo generate`: chat templates, files of prompts, and what it writes.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::{bupo, device, fail, lines, succeed, text};
use serde_json::json;
use tempfile::TempDir;

/// The embedded model with a chat template.
fn chat_model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/arithmetic-1m");
    for entry in fs::read_dir(embedded).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&entry, folder.path().join(entry.file_name().unwrap())).unwrap();
    }
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>{% endfor %}<assistant>";
    let config = json!({"eos_token": "<|endoftext|>", "chat_template": template});
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

fn stderr(args: &[&str]) -> String {
    String::from_utf8(bupo(args).stderr).unwrap()
}

#[test]
fn chat_renders_the_prompt_by_the_template_of_the_model() {
    let (folder, model) = (tempfile::tempdir().unwrap(), chat_model());
    let generate = ["generate", "--model", text(model.path()), "--prompt", "7+5=", "--max-new-tokens", "2"];
    for (number, (options, expected)) in [
        (&["--chat"][..], "<user>7+5=<|endoftext|><assistant>"),
        (&["--system", "Add."], "<system>Add.<|endoftext|><user>7+5=<|endoftext|><assistant>"),
        (&[], "7+5="),
    ]
    .iter()
    .enumerate()
    {
        let out = folder.path().join(format!("{number}.jsonl"));
        succeed(&[&generate[..], options, &["--out", text(&out)]].concat());
        assert_eq!(lines(&out)[0]["prompt"], *expected);
    }
    assert!(stderr(&generate).contains("--chat applies the model's chat template"));
    assert!(!stderr(&[&generate[..], &["--chat"]].concat()).contains("goes in as it is"));
    // Without a template the texts go in, and without --chat nothing is said.
    let plain = ["generate", "--prompt", "7+5=", "--max-new-tokens", "2"];
    assert!(stderr(&[&plain[..], &["--chat"]].concat()).contains("has no chat template"));
    assert!(!stderr(&plain).contains("chat"));
    let ids = folder.path().join("ids.json");
    fs::write(&ids, "[[1, 2]]").unwrap();
    assert!(fail(&["generate", "--tokens", text(&ids), "--chat"]).contains("--chat"));
}

#[test]
fn responses_to_a_file_of_prompts_are_printed_and_written_as_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (prompts, out) = (folder.path().join("prompts.txt"), folder.path().join("out.jsonl"));
    fs::write(&prompts, "7+5=\n\n17+8=\n").unwrap();
    let generate = ["generate", "--prompts", text(&prompts), "--temperature", "0"];
    let alone: Vec<String> = ["7+5=", "17+8="]
        .map(|prompt| succeed(&["generate", "--prompt", prompt, "--temperature", "0"]))
        .into_iter()
        .collect();
    assert_eq!(succeed(&generate), alone.join("\n"));
    for batch in ["1", "2"] {
        let shown = succeed(&[&generate[..], &["--out", text(&out), "--force", "--batch", batch]].concat());
        assert!(shown.contains("out.jsonl"), "{shown}");
        let mut lines = lines(&out);
        lines.sort_by_key(|line| line["prompt"].to_string());
        assert_eq!(lines.len(), 2);
        for (line, shown) in lines.iter().zip([&alone[1], &alone[0]]) {
            let whole = format!("{}{}\n", line["prompt"].as_str().unwrap(), line["response"].as_str().unwrap());
            assert_eq!(&whole, shown);
            let count = |name: &str| line[name].as_array().unwrap().len();
            assert_eq!((count("response_tokens"), &line["finished"]), (count("log_probs"), &json!(true)));
            assert_eq!(count("prompt_tokens"), line["prompt"].as_str().unwrap().len());
        }
    }
    // The file is one that an analysis reads.
    let analysis = folder.path().join("analysis");
    succeed(&["analyze", "--completions", text(&out), "--out", text(&analysis)]);
    assert!(fail(&[&generate[..], &["--out", text(&out)]].concat()).contains("--force"));
    assert!(stderr(&generate).contains("tokens/s"));

    fs::write(&prompts, "\n").unwrap();
    assert!(fail(&generate).contains("no prompts"));
    let missing = folder.path().join("missing.txt");
    assert!(fail(&["generate", "--prompts", text(&missing)]).contains("missing.txt"));
    assert!(fail(&["generate", "--prompt", ""]).contains("no tokens"));
    assert!(fail(&["generate", "--prompt", "1", "--batch", "0"]).contains("--batch"));
}

#[test]
fn prompts_come_from_standard_input_too() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bupo"))
        .args(["generate", "--prompts", "-", "--temperature", "0", "--device", &device()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"7+5=\n").unwrap();
    let shown = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(shown, succeed(&["generate", "--prompt", "7+5=", "--temperature", "0"]));
}

/// Ctrl-C, as a terminal sends it.
#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_complete_responses() {
    let folder = tempfile::tempdir().unwrap();
    let (prompts, out) = (folder.path().join("prompts.txt"), folder.path().join("out.jsonl"));
    fs::write(&prompts, "7+5=\n".repeat(500)).unwrap();
    let options = ["--batch", "1", "--ignore-eos", "--max-new-tokens", "100"];
    let child = Command::new(env!("CARGO_BIN_EXE_bupo"))
        .args(["generate", "--prompts", text(&prompts), "--out", text(&out), "--device", &device()])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while fs::metadata(&out).map_or(0, |file| file.len()) == 0 && started.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    let kept = lines(&out).len();
    assert!(output.status.success() && kept < 500, "{message}");
    assert!(message.contains(&format!("{kept} of 500 responses are complete")), "{message}");
}
