//! `bupo analyze`.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use program::{check_page, fail, fixture, lines, succeed, text};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const SMALL: [&str; 6] = ["--limit", "4", "--samples", "2", "--max-new-tokens", "24"];

fn analyze(out: &Path, more: &[&str]) -> String {
    succeed(&[&["analyze", "--out", text(out)], more].concat())
}

fn refuse(out: &Path, more: &[&str]) -> String {
    fail(&[&["analyze", "--out", text(out)], more].concat())
}

fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/arithmetic-1m")
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

/// (model, site, statistic, slice) -> the row's cells after them.
fn csv(folder: &Path) -> BTreeMap<(String, String, String, String), Vec<String>> {
    let text = fs::read_to_string(folder.join("measures.csv")).unwrap();
    let mut rows = text.lines().map(|line| line.split(',').map(String::from).collect::<Vec<_>>());
    let header = rows.next().unwrap();
    assert_eq!(header[..4], ["model", "norm", "site", "kind"]);
    rows.map(|row| ((row[0].clone(), row[2].clone(), row[5].clone(), row[7].clone()), row[8..].to_vec())).collect()
}

#[test]
fn an_analysis_writes_tables_charts_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("analysis");
    let shown = analyze(&out, &SMALL);
    for wanted in ["norm none", "boundary layer", "[[phases]]", "convergence", "feed-forward change"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let responses = lines(&out.join("completions.jsonl"));
    let tokens: usize = responses.iter().map(|line| line["response_tokens"].as_array().unwrap().len()).sum();
    let summary = summary(&out);
    let model = &summary["models"][0];
    assert_eq!((&summary["schema"], &summary["complete"]), (&json!(1), &json!(true)));
    assert_eq!((model["responses"].as_u64(), model["tokens"].as_u64()), (Some(8), Some(tokens as u64)));
    assert_eq!((&model["norm"], &model["num_layers"], &model["scored"]), (&json!("none"), &json!(6), &json!(8)));
    let rows = csv(&out);
    // 18 internal policies have 15 statistics, layers two more. The full policy has no input and is no contribution, so it has 9.
    assert_eq!(model["measures"].as_array().unwrap().len(), 18 * 15 + 6 * 2 + 9, "{:?}", model["measures"]);
    let name = "the embedded model".to_string();
    let row = |site: &str, statistic: &str| &rows[&(name.clone(), site.into(), statistic.into(), "all".into())];
    assert_eq!(row("full", "kl")[0], "0");
    assert_eq!(row("layer:3", "entropy")[4], tokens.to_string());
    let attribution = |site: &str, statistic: &str| row(site, statistic)[0].parse::<f64>().unwrap();
    let layers = (1..=6).map(|layer| attribution(&format!("layer:{layer}"), "attribution"));
    let (sum, logit) =
        (layers.sum::<f64>() + attribution("layer:1", "input_attribution"), attribution("full", "attribution"));
    assert!((sum - logit).abs() < 1e-3 && logit > 1.0, "{sum} {logit}");
    for statistic in ["cosine_to_last", "cka_to_last"] {
        let numbers = |layer: usize| -> Vec<f64> {
            row(&format!("layer:{layer}"), statistic)[..3].iter().map(|number| number.parse().unwrap()).collect()
        };
        let [mean, low, high] = numbers(2)[..] else { panic!("mean, low, high") };
        assert!(low < mean && mean < high && high <= 1.0 && low > -1.0, "{statistic}: {low} {mean} {high}");
        assert!(numbers(6).iter().all(|number| (number - 1.0).abs() < 1e-6), "{statistic}: {:?}", numbers(6));
    }
    let page = check_page(&out.join("report.html"));
    for picture in fs::read_dir(out.join("pictures")).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes = fs::read(&picture).unwrap();
        match picture.extension().and_then(|e| e.to_str()).unwrap() {
            "svg" => assert!(bytes.starts_with(b"<svg")),
            "png" => assert!(bytes.starts_with(b"\x89PNG")),
            other => panic!("{other}"),
        }
    }
    for picture in [
        "entropy-flow-1",
        "entropy-change-ffn",
        "response-1",
        "response-attn-1",
        "response-ffn-1",
        "agreement-1",
        "attribution-1",
        "similarity-to-last-1",
        "norms-1",
        "cosines-1",
    ] {
        assert!(out.join("pictures").join(format!("{picture}.svg")).is_file(), "{picture}");
        assert!(out.join("pictures").join(format!("{picture}.png")).is_file(), "{picture}");
        assert!(page.contains(&format!("{picture}-")) || page.contains(picture), "{picture}");
    }
}

#[test]
fn an_analysis_of_its_own_completions_gives_the_same_result() {
    let folder = tempfile::tempdir().unwrap();
    let (first, again) = (folder.path().join("first"), folder.path().join("again"));
    analyze(&first, &SMALL);
    let completions = first.join("completions.jsonl");
    analyze(&again, &["--completions", text(&completions)]);
    assert_eq!(fs::read(&completions).unwrap(), fs::read(again.join("completions.jsonl")).unwrap());
    let (mut first, mut again) = (summary(&first), summary(&again));
    let settings: Vec<Value> = [&mut first, &mut again].map(|summary| summary["models"][0]["settings"].take()).into();
    assert_eq!(first, again);
    assert_eq!((&settings[0]["samples"], &settings[1]["samples"]), (&json!(2), &Value::Null));
    assert_eq!(settings[1]["completions"], text(&completions));
}

#[test]
fn models_are_compared_on_the_same_responses() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let completions = folder.path().join("responses.jsonl");
    // The second response ends at the end-of-sequence id 2: three of its tokens are measured.
    fs::write(
        &completions,
        "{\"prompt\": [5, 6], \"response\": [7, 8]}\n{\"prompt\": [9], \"response\": [1, 3, 2, 5, 5]}\n",
    )
    .unwrap();
    let (a, b) = (fixture("qwen3-tied"), fixture("llama3-scaled"));
    let args = ["--model", text(&a), "--model", text(&b), "--completions", text(&completions), "--norm", "final"];
    let shown = analyze(&out, &args);
    assert!(shown.contains(text(&a)) && shown.contains(text(&b)) && shown.contains("norm final"), "{shown}");
    let summary = summary(&out);
    let models = summary["models"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    for model in models {
        assert_eq!((model["tokens"].as_u64(), &model["mean_score"]), (Some(5), &Value::Null), "{model}");
        let last = format!("layer:{}", model["num_layers"]);
        let of = |statistic: &str| {
            let rows = model["measures"].as_array().unwrap();
            rows.iter().find(|row| row["site"] == *last && row["statistic"] == *statistic).unwrap()["mean"].as_f64()
        };
        // The last layer with the final norm is the full policy.
        assert_eq!((of("kl"), of("agreement")), (Some(0.0), Some(1.0)));
    }
    check_page(&out.join("report.html"));
}

/// A copy of the embedded model with its first `layers` layers, the last of which contributes nothing.
fn other_model(folder: &Path, layers: usize) -> PathBuf {
    let (from, to) = (embedded(), folder.join(format!("layers-{layers}")));
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    config["num_hidden_layers"] = layers.into();
    fs::write(to.join("config.json"), config.to_string()).unwrap();
    let bytes = fs::read(from.join("model.safetensors")).unwrap();
    let zeros = vec![0; bytes.len()];
    let is_of = |name: &str, layer: usize| name.contains(&format!("layers.{layer}."));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.tensors().into_iter().filter(|(name, _)| (layers..6).all(|layer| !is_of(name, layer)));
    let changed = kept.map(|(name, tensor)| {
        let is_zero = is_of(&name, layers - 1) && (name.contains("o_proj") || name.contains("down_proj"));
        let data = if is_zero { &zeros[..tensor.data().len()] } else { tensor.data() };
        let changed = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), data).unwrap();
        (name, changed)
    });
    safetensors::serialize_to_file(changed, None, &to.join("model.safetensors")).unwrap();
    to
}

#[test]
fn maps_of_two_models_are_shown_with_their_difference() {
    let folder = tempfile::tempdir().unwrap();
    let (same, other) = (other_model(folder.path(), 6), other_model(folder.path(), 5));
    let responses = folder.path().join("responses.jsonl");
    // Of two tokens, the linear CKA of any two models is 1.
    fs::write(&responses, "{\"prompt\": \"17+8-5=\", \"response\": \"25-5=20\"}\n").unwrap();
    let compare = |name: &str, with: &Path| {
        let out = folder.path().join(name);
        let model = embedded();
        let models = ["--model", text(&model), "--model", text(with)];
        analyze(&out, &[&models[..], &["--completions", text(&responses), "--norm", "final"]].concat());
        (check_page(&out.join("report.html")), out.join("pictures/response-difference-1.svg"))
    };
    let (page, difference) = compare("compared", &same);
    assert!(difference.is_file() && page.contains("id=\"response-ffn-difference-1\""));
    assert!(page.contains("more in A \u{2190} nats \u{2192} more in B"));
    assert!(page.contains("A is arithmetic-1m, B is layers-6."));
    assert!(page.contains("\"more\":[\"arithmetic-1m\",\"layers-6\"]"));
    // The layers below the changed one are the same.
    assert!(page.contains("layer:1 +0.00, layer:6 "), "{}", page.len());
    assert!(page.contains("id=\"similarity-to-base-2\"") && !page.contains("similarity-to-base-1"));
    let rows = csv(&folder.path().join("compared"));
    let same = text(&same).to_string();
    let to_base = |layer: usize, statistic: &str| -> f64 {
        rows[&(same.clone(), format!("layer:{layer}"), statistic.into(), "all".into())][0].parse().unwrap()
    };
    for statistic in ["cosine_to_base", "cka_to_base"] {
        assert!((to_base(5, statistic) - 1.0).abs() < 1e-6 && to_base(6, statistic) < 1.0 - 1e-4, "{statistic}");
    }
    let (page, difference) = compare("not-compared", &other);
    assert!(!difference.exists() && page.contains("No difference is drawn: A has 6 layers and B has 5."));
    assert!(!page.contains("similarity-to-base") && page.contains("similarity-to-last-2"));
}

#[test]
fn the_first_layers_can_be_measured_without_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let shown = analyze(&out, &[&SMALL[..], &["--layers", "2"]].concat());
    assert!(shown.contains("only the first 2 of 6 layers"), "{shown}");
    let model = &summary(&out)["models"][0];
    assert!(model["boundary"].is_null() && model["convergence"].is_null());
    let needs_all = ["kl", "attribution", "cka_to_last"];
    assert!(
        csv(&out).keys().all(|(_, site, statistic, _)| !site.ends_with(":3") && !needs_all.contains(&&**statistic))
    );
    check_page(&out.join("report.html"));
}

#[test]
fn an_analysis_records_what_makes_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let (out, prompts) = (folder.path().join("out"), folder.path().join("prompts.txt"));
    fs::write(&prompts, "1+2=\n3+4=\n").unwrap();
    let small = ["--prompts", text(&prompts), "--samples", "1", "--max-new-tokens", "8", "--seed", "7", "--top-k", "3"];
    let shown = analyze(&out, &[&small[..], &["--temperature", "0.5", "--dtype", "f32"]].concat());
    assert!(shown.contains("2 prompts x 1 responses; chat template: none"), "{shown}");
    let summary = summary(&out);
    let settings = &summary["models"][0]["settings"];
    for (name, wanted) in [
        ("prompts", json!(prompts)),
        ("chat_template", json!("auto")),
        ("chat_template_applied", json!("none")),
        ("samples", json!(1)),
        ("seed", json!(7)),
        ("temperature", json!(0.5)),
        ("top_k", json!(3)),
        ("max_new_tokens", json!(8)),
        ("dtype", json!("f32")),
        ("limit", json!(64)),
        ("engine", json!("own")),
    ] {
        assert_eq!(settings[name], wanted, "{name}: {settings}");
    }
    assert_eq!((&summary["models"][0]["norm"], &summary["models"][0]["warning"]), (&json!("none"), &Value::Null));
    assert!(summary["bupo"].is_string());
    let page = check_page(&out.join("report.html"));
    for wanted in ["max_new_tokens", "chat_template_applied", "Settings", env!("CARGO_PKG_VERSION"), "f32"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    // Two responses are never a stable boundary.
    assert_eq!(summary["models"][0]["boundary"]["sure"], false);
    let certainty = summary["models"][0]["boundary"]["certainty"].as_str().unwrap();
    assert!(certainty.starts_with("not stable: 2 responses are too few") && page.contains(certainty), "{certainty}");
    let plain = folder.path().join("plain");
    let shown = analyze(&plain, &[&small[..], &["--chat-template", "plain"]].concat());
    assert!(shown.contains("; chat template: plain"), "{shown}");
}

#[test]
fn states_that_are_not_readable_without_a_norm_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("qwen3-tied");
    let completions = folder.path().join("responses.jsonl");
    // At this token, no layer below the last agrees with the full policy.
    fs::write(&completions, "{\"prompt\": [1], \"response\": [7]}\n").unwrap();
    let run = |norm: &str| {
        let out = folder.path().join(norm);
        let args = ["analyze", "--model", text(&model), "--completions", text(&completions), "--norm", norm];
        let output = program::bupo(&[&args[..], &["--out", text(&out)]].concat());
        assert!(output.status.success());
        (String::from_utf8(output.stderr).unwrap(), fs::read_to_string(out.join("report.html")).unwrap())
    };
    let (warned, page) = run("none");
    assert!(warned.contains("of tokens; try --norm final"), "{warned}");
    assert!(page.contains("of tokens; try --norm final"));
    // Titles are the last part of a path.
    assert!(page.contains("<title>Internal policies of qwen3-tied</title>"));
    let (warned, page) = run("final");
    assert!(!warned.contains("--norm final") && !page.contains("try --norm final"), "{warned}");
}

#[test]
fn responses_to_a_prompt_file_are_not_graded() {
    let folder = tempfile::tempdir().unwrap();
    let (out, prompts) = (folder.path().join("out"), folder.path().join("prompts.txt"));
    fs::write(&prompts, "1+2=\n\n3+4=\n").unwrap();
    analyze(&out, &["--prompts", text(&prompts), "--samples", "1", "--max-new-tokens", "8"]);
    let responses = lines(&out.join("completions.jsonl"));
    assert_eq!(responses.iter().map(|line| &line["prompt"]).collect::<Vec<_>>(), ["1+2=", "3+4="]);
    assert!(responses.iter().all(|line| line["score"].is_null()));
}

#[test]
fn bad_input_is_an_error_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let file = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    };
    let foreign = file(
        "foreign.jsonl",
        "{\"prompt\": \"1+1=\", \"response\": \"2\"}\n{\"prompt\": [1], \"response\": [99999]}\n",
    );
    let empty = file("empty.jsonl", "");
    let broken = file("broken.jsonl", "{\"prompt\": \"1+1=\"\n");
    for (args, wanted) in [
        (&["--completions", text(&foreign)][..], "line 2: token id 99999"),
        (&["--completions", text(&empty)], "no responses"),
        (&["--prompts", text(&empty)], "no prompts"),
        (&["--completions", text(&broken)], "line 1"),
        (&["--completions", "/nowhere/at/all.jsonl"], "/nowhere/at/all.jsonl"),
        (&["--data", "/nowhere/at/all.parquet"], "/nowhere/at/all.parquet"),
        (&["--model", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["--model", "a/b", "--model", "a/b"], "twice"),
        (&["--samples", "0"], "at least 1"),
        (&["--prompts", text(&broken), "--max-prompt-tokens", "2"], "no prompt has at most 2"),
        (&["--layers", "7"], "layers 1 to 6"),
        (&["--tolerance", "1.5"], "--tolerance"),
        (&["--temperature", "-1"], "--temperature"),
    ] {
        let message = refuse(&out, args);
        assert!(message.contains(wanted), "{args:?}: {message}");
        assert!(!out.exists(), "{args:?} left a folder");
    }
    // A tokenizer of 257 tokens beside a model of 151.
    let mixed = folder.path().join("mixed");
    fs::create_dir(&mixed).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture("qwen3-tied").join(name), mixed.join(name)).unwrap();
    }
    fs::copy(embedded().join("tokenizer.json"), mixed.join("tokenizer.json")).unwrap();
    let message = refuse(&out, &["--model", text(&mixed)]);
    assert!(message.contains("not this model's tokenizer"), "{message}");

    let kept = out.join("thesis.tex");
    fs::create_dir(&out).unwrap();
    fs::write(&kept, "all of it").unwrap();
    assert!(refuse(&out, &SMALL).contains("--force"));
    analyze(&out, &[&SMALL[..], &["--force"]].concat());
    analyze(&out, &[&SMALL[..], &["--force"]].concat());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "all of it");
    assert_eq!(lines(&out.join("completions.jsonl")).len(), 8);
    // Completions of something else, such as a training run, are not overwritten either.
    fs::remove_file(out.join("summary.json")).unwrap();
    assert!(refuse(&out, &[&SMALL[..], &["--force"]].concat()).contains("not of an analysis"));
    assert_eq!(lines(&out.join("completions.jsonl")).len(), 8);
}

#[test]
fn responses_of_another_tokenizer_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (first, out) = (folder.path().join("first"), folder.path().join("out"));
    analyze(&first, &SMALL);
    let written = lines(&first.join("completions.jsonl"));
    assert!(written.iter().all(|line| line["model"] == "the embedded model"));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut responses = written.clone();
        change(&mut responses[2]);
        let path = folder.path().join("changed.jsonl");
        fs::write(&path, responses.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        path
    };
    let shift = |ids: &Value| -> Value {
        ids.as_array().unwrap().iter().map(|id| json!((id.as_u64().unwrap() + 1) % 250)).collect()
    };
    for name in ["prompt", "response"] {
        let path = changed(&|line| {
            let ids = format!("{name}_tokens");
            line[&ids] = shift(&line[&ids]);
            line["model"] = json!("org/other");
        });
        let message = refuse(&out, &["--completions", text(&path)]);
        assert!(message.contains("line 3") && message.contains(&format!("{name}_tokens")), "{message}");
        assert!(message.contains("org/other") && !out.exists(), "{message}");
    }
    // Without texts, only the name tells.
    let path = changed(&|line| {
        (line["prompt"], line["response"], line["model"]) = (json!(""), json!(""), json!("org/other"));
    });
    let message = refuse(&out, &["--completions", text(&path)]);
    assert!(message.contains("line 3") && message.contains("token ids of org/other"), "{message}");

    // The same tokenizer under another name, text with special tokens, and ids after the end are all accepted.
    let path = changed(&|line| {
        line["model"] = json!("org/finetuned");
        let ids = line["response_tokens"].as_array_mut().unwrap();
        ids.extend([json!(256), json!(49)]);
    });
    analyze(&out, &["--completions", text(&path)]);
}
