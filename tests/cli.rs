//! The program's output files.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;

use program::{fail, fixture, lines, succeed, text};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

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
fn replay_takes_the_settings_of_the_loss_and_the_temperature() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("qwen3-tied");
    let rollouts = model.join("rollouts.jsonl");
    let args = ["replay", "--model", text(&model), "--rollouts", text(&rollouts), "--updates", "2", "--lr", "3e-4"];
    let losses = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        succeed(&[&args[..], &["--out", text(&out)], more].concat());
        lines(&out.join("updates.jsonl")).iter().map(|line| line["loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let default = losses("default", &[]);
    assert_eq!(losses("same", &["--set", "loss=grpo", "--temperature", "1"]), default);
    // Another aggregation, another range of ratios in the second update, other log-probs.
    assert_ne!(losses("aggregation", &["--set", "objective.aggregation=seq-mean-token-mean"])[0], default[0]);
    assert_ne!(losses("gspo", &["--set", "loss=gspo"])[1], default[1]);
    assert_ne!(losses("temperature", &["--temperature", "0.5"])[1], default[1]);
    let out = folder.path().join("refused");
    for (more, expected) in [
        (["--set", "rollout.prompts=4"], "no effect on a replay"),
        (["--set", "objective.clip=1"], "clip"),
        (["--temperature", "0"], "temperature"),
    ] {
        let message = fail(&[&args[..], &["--out", text(&out)], &more[..]].concat());
        assert!(message.contains(expected) && !out.exists(), "{message}");
    }
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
        "policy_kl",
        "kl",
        "grad_norm",
        "clip_ratio",
        "clip_ratio_low",
        "clip_ratio_high",
        "response_length",
        "response_length_min",
        "response_length_max",
        "tokens_per_second",
    ];
    for (index, line) in metrics.iter().enumerate() {
        assert_eq!(line["step"], index + 1);
        assert_eq!(line["phase"], if index < 2 { 1 } else { 2 });
        assert_eq!(line["site"].as_str().unwrap() == "full", index == 2);
        assert_eq!(line["first_ratio"], 1.0, "the first update of step {} starts at ratio 1", index + 1);
        assert!(names.iter().all(|name| line[name].is_number()), "{line}");
        let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name}: {line}"));
        assert_eq!(number("policy_kl"), number("kl"));
        assert!((number("clip_ratio_low") + number("clip_ratio_high") - number("clip_ratio")).abs() < 1e-12);
        assert!(number("response_length_min") <= number("response_length"));
        assert!(number("response_length") <= number("response_length_max"));
        let parts = |names: [&str; 2]| names.map(number).iter().sum::<f64>();
        assert!(number("seconds_sampling") > 0.0 && number("seconds_gradient_steps") > 0.0);
        assert!(parts(["seconds_sampling", "seconds_grading"]) <= number("seconds_rollout") + 1e-6);
        assert!(parts(["seconds_old_log_probs", "seconds_gradient_steps"]) <= number("seconds_update") + 1e-6);
        // There are no servers, one source and no rows.
        for absent in ["seconds_hand_over", "reward_by_source", "epoch"] {
            assert!(line.get(absent).is_none(), "{absent}: {line}");
        }
        if cfg!(target_os = "linux") {
            assert!(number("memory_peak") > 1e7, "{line}");
        }
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
fn lens_shows_every_layer_at_every_position() {
    let shown = succeed(&["lens", "7+5=", "--top", "2"]);
    for expected in ["norm final", "1 \"7\"", "4 \"=\"", "layer:6", "full"] {
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
    assert!(fail(&["bench", "--shape", text(&shape), "--layer", "99"]).contains("layer is 99; it must be from 1 to "));
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
    assert!(!stderr(&args).contains("warning"));
    let longer = [&args[..6], &["9"]].concat();
    let warning = stderr(&longer);
    assert!(warning.contains("13 tokens") && warning.contains("supports 12"), "{warning}");
}
