//! Evaluation on data files.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;

use program::rows::{arithmetic, verl};
use program::{fail, lines, succeed, text};
use serde_json::{Value, json};

#[test]
fn eval_prints_a_table_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let (sums, out) = (folder.path().join("sums.jsonl"), folder.path().join("eval"));
    arithmetic(&sums, 6);
    let data = format!("{},{}", text(&sums), text(&verl()));
    let args = |more: &[&'static str]| {
        let fixed = ["eval", "--data", &data, "--samples", "3", "--max-new-tokens", "8", "--batch", "6"];
        let args = [&fixed[..], &["--out", text(&out)], more].concat();
        args.into_iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let run = |more: &[&'static str]| {
        let args = args(more);
        succeed(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let shown = run(&[]);
    for expected in ["sums", "verl_snappy", "mean", "Avg@3", "Pass@1", "Pass@2", "Pass@3", "truncated"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let all = lines(&out.join("completions.jsonl"));
    let problems = lines(&out.join("completions.jsonl")).len() / 3;
    assert_eq!((all.len() % 3, &all[0]["benchmark"], &all[0]["problem"]), (0, &json!("sums"), &json!(1)));
    let results: Value = serde_json::from_str(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
    assert_eq!(results[0]["pass_at"].as_array().unwrap().len(), 3);

    // Truncated in the middle of the second problem, it is resumed with the same responses.
    let text_of = |lines: &[Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    fs::write(out.join("completions.jsonl"), text_of(&all[..4])).unwrap();
    let again = run(&[]);
    assert!(again.contains("1 problems are already done"), "{again}");
    assert_eq!(lines(&out.join("completions.jsonl")), all);
    assert_eq!(problems, all.len() / 3);

    let other = args(&["--seed", "1"]);
    let message = fail(&other.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(message.contains("another seed"), "{message}");
    let graded = succeed(&["eval", "--completions", text(&out.join("completions.jsonl")), "--rule", "numeric"]);
    assert!(graded.contains("graded by numeric") && graded.contains("Pass@3"), "{graded}");
}

#[test]
fn eval_warns_of_turns_that_do_not_end_with_an_end_of_sequence_id() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (folder.path().join("model"), folder.path().join("sums.jsonl"));
    arithmetic(&data, 2);
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/arithmetic-1m")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}END{% endfor %}";
    fs::write(model.join("tokenizer_config.json"), json!({"chat_template": template}).to_string()).unwrap();
    let args = ["eval", "--model", text(&model), "--data", text(&data), "--samples", "1", "--max-new-tokens", "2"];
    let warnings = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let output = program::bupo(&[&args[..], &["--out", text(&out)], more].concat());
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(warnings("own", &[]).contains("ends an assistant turn with \"END\""));
    assert!(!warnings("plain", &["--chat-template", "plain"]).contains("assistant turn"));
}

#[test]
fn eval_samples_internal_policies() {
    let folder = tempfile::tempdir().unwrap();
    let sums = folder.path().join("sums.jsonl");
    arithmetic(&sums, 2);
    let mut texts = Vec::new();
    for site in ["full", "layer:2"] {
        let out = folder.path().join(site.replace(':', "-"));
        let common = ["eval", "--data", text(&sums), "--samples", "2", "--max-new-tokens", "6", "--out", text(&out)];
        succeed(&[&common[..], &["--policy", site]].concat());
        texts.push(
            lines(&out.join("completions.jsonl")).iter().map(|line| line["response"].to_string()).collect::<String>(),
        );
    }
    assert_ne!(texts[0], texts[1]);
    let message = fail(&["eval", "--data", text(&sums), "--policy", "layer:9"]);
    assert!(message.contains("layer:9"), "{message}");
}

#[test]
fn eval_restricts_sampling_and_stops_at_texts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("sums.jsonl");
    fs::write(&data, "{\"prompt\": \"17+8-5=\", \"answer\": \"20\"}\n{\"prompt\": \"9+9=\", \"answer\": \"18\"}\n")
        .unwrap();
    let run = |name: &str, more: &[&str]| -> Vec<Value> {
        let out = folder.path().join(name);
        let sizes = ["--samples", "3", "--max-new-tokens", "16", "--rule", "numeric", "--chat-template", "none"];
        succeed(&[&["eval", "--data", text(&data), "--out", text(&out)], &sizes[..], more].concat());
        lines(&out.join("completions.jsonl"))
    };
    let responses = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["response"].as_str().unwrap().to_string()).collect()
    };
    let greedy = responses(&run("greedy", &["--top-k", "1"]));
    assert!(greedy.chunks(3).all(|problem| problem.iter().all(|response| *response == problem[0])), "{greedy:?}");
    // The text ends before the stop string, and the response counts as finished.
    let first: String = greedy[0].chars().take(1).collect();
    let stopped = run("stopped", &["--top-k", "1", "--stop", &first]);
    assert_eq!(stopped[0]["response"], "");
    assert_eq!((stopped[0]["tokens"].as_u64(), stopped[0]["finished"].as_bool()), (Some(1), Some(true)));
    let out = text(&folder.path().join("greedy")).to_string();
    let common =
        ["eval", "--data", text(&data), "--max-new-tokens", "16", "--rule", "numeric", "--chat-template", "none"];
    let other = fail(&[&common[..], &["--out", &out, "--samples", "3", "--top-k", "2"]].concat());
    assert!(other.contains("another restrictions"), "{other}");
    assert!(fail(&[&common[..], &["--top-p", "0"]].concat()).contains("top_p"));
}

#[test]
fn eval_prints_its_table_in_other_formats_and_compares_evaluations() {
    let folder = tempfile::tempdir().unwrap();
    let (data, other) = (folder.path().join("sums.jsonl"), folder.path().join("other").join("sums.jsonl"));
    arithmetic(&data, 4);
    fs::create_dir(folder.path().join("other")).unwrap();
    arithmetic(&other, 3);
    let evaluate = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let args = ["eval", "--samples", "2", "--max-new-tokens", "6", "--out", text(&out)];
        let shown = succeed(&[&args[..], more].concat());
        (out, shown)
    };
    let (a, shown) = evaluate("a", &["--data", text(&data), "--table", "csv"]);
    // Nothing but the table.
    let rows: Vec<&str> = shown.lines().collect();
    assert_eq!(rows[..2], ["metric,sums,sums half-width", "problems,4,"], "{shown}");
    assert!(rows.iter().all(|row| row.split(',').count() == 3) && rows[2].starts_with("Avg@2,"), "{shown}");
    let completions = a.join("completions.jsonl");
    let again = |format: &str| succeed(&["eval", "--completions", text(&completions), "--table", format]);
    assert_eq!(again("csv"), shown);
    assert!(again("markdown").contains("|  | sums |\n| --- | ---: |\n| problems | 4 |"), "{}", again("markdown"));
    assert!(again("latex").contains("\\begin{tabular}{lr}"), "{}", again("latex"));

    let (b, _) = evaluate("b", &["--data", text(&data), "--seed", "1"]);
    let compared = succeed(&["eval", "--compare", text(&a), text(&b)]);
    assert!(compared.contains("B - A") && compared.contains("on the same problems"), "{compared}");
    let same = succeed(&["eval", "--compare", text(&a), text(&a), "--table", "csv"]);
    assert!(same.contains("B - A,+0.0000,0.0000") && same.contains("B is worse on,0,"), "{same}");
    let (c, _) = evaluate("c", &["--data", text(&other)]);
    let message = fail(&["eval", "--compare", text(&a), text(&c)]);
    assert!(message.contains("has no problem 4 of sums, which"), "{message}");
    let message = fail(&["eval", "--compare", text(&a), text(folder.path())]);
    assert!(message.contains("it has no completions.jsonl; give the folder of an evaluation"), "{message}");
}
