//! The program with servers that sample: `train`, `eval` and `analyze`, against a server with the calls of vLLM and SGLang that fails
//! in every way a server can.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)] // A test that fails says where.

#[path = "program/contract_server.rs"]
mod contract_server;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bupo_core::{Norm, PolicySite, SamplingParams};
use bupo_engine::{Engine, EngineKind, RemoteEngine, RemoteSettings, SampleRequest};
use bupo_models::pretrained::load_config;
use bupo_models::{GenerateOptions, ModelFiles};
use contract_server::{ContractServer, Fault, Loading};
use program::{fail, lines, rows, succeed, text};
use safetensors::SafeTensors;
use serde_json::Value;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/arithmetic-1m")
}

fn start() -> ContractServer {
    ContractServer::start(&model())
}

/// Options of a short run of both phases. The numbers of steps are those of the phases.
fn train_args(engine: &str, urls: &[&ContractServer], steps: [usize; 2], more: &[&str]) -> Vec<String> {
    let urls: Vec<String> = urls.iter().map(|server| format!("'{}'", server.url)).collect();
    let mut pairs = vec![
        format!("rollout.engine={engine}"),
        format!("rollout.urls=[{}]", urls.join(",")),
        format!("phases.0.steps={}", steps[0]),
        format!("phases.1.steps={}", steps[1]),
    ];
    pairs.extend(
        ["rollout.prompts=4", "update.mini_batch_prompts=2", "rollout.group_size=4", "evaluation.problems=4"]
            .map(String::from),
    );
    pairs.extend(["evaluation.samples=2", "rollout.timeout=5", "checkpoint.every=0"].map(String::from));
    pairs.extend(more.iter().map(ToString::to_string));
    pairs.iter().flat_map(|pair| ["--set".to_string(), pair.clone()]).collect()
}

fn train(out: &Path, args: &[String]) -> Vec<Value> {
    let mut all = vec!["train", "--out", text(out), "--dtype", "f32"];
    all.extend(args.iter().map(String::as_str));
    succeed(&all);
    lines(&out.join("metrics.jsonl"))
}

fn train_fails(out: &Path, args: &[String]) -> String {
    let mut all = vec!["train", "--out", text(out), "--dtype", "f32"];
    all.extend(args.iter().map(String::as_str));
    fail(&all)
}

fn steps(metrics: &[Value]) -> Vec<u64> {
    metrics.iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn servers_sample_both_phases_with_the_weights_they_are_handed_over() {
    for engine in ["vllm", "sglang"] {
        let (server, folder) = (start(), tempfile::tempdir().unwrap());
        let out = folder.path().join("run");
        let metrics = train(&out, &train_args(engine, &[&server], [2, 2], &["rollout.temperature=0.8"]));
        assert_eq!(steps(&metrics), [1, 2, 3, 4]);
        for line in &metrics {
            assert!(line["sampling_logp_difference_max"].as_f64().unwrap() < 1e-3, "{line}");
            assert_eq!(line["staleness"], 0);
            assert!(line["seconds_hand_over"].as_f64().unwrap() < line["seconds_rollout"].as_f64().unwrap(), "{line}");
            assert!((line["importance_ratio_mean"].as_f64().unwrap() - 1.0).abs() < 1e-3, "{line}");
            assert!(line["importance_ratio_std"].as_f64().unwrap() < 1e-2, "{line}");
            assert_eq!(line["importance_ratio_cut"], 0.0);
            assert!(line["warnings"].as_array().is_none_or(Vec::is_empty), "{line}");
        }
        // At the start, and after each step.
        let folders = server.folders();
        assert_eq!(folders.len(), 5);
        let highest = |names: &Vec<String>| {
            let layers = names.iter().filter_map(|name| name.split('.').nth(2)?.parse::<usize>().ok());
            layers.max().unwrap()
        };
        // vLLM gets the three layers that phase 1 trains.
        let expected = if engine == "vllm" { [5, 2, 2, 5, 5] } else { [5; 5] };
        assert_eq!(folders.iter().map(highest).collect::<Vec<_>>(), expected);
        assert!(folders.iter().all(|names| names.iter().any(|name| name == "model.embed_tokens.weight")));
        let kept = fs::read_dir(out.join("weights")).unwrap().count();
        assert_eq!(kept, 2);
    }
}

/// A copy of the model whose unembedding is not tied to its embedding.
fn untied(folder: &Path) -> PathBuf {
    let copy = folder.join("untied");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&fs::read(copy.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["tie_word_embeddings"], true);
    config["tie_word_embeddings"] = false.into();
    fs::write(copy.join("config.json"), config.to_string()).unwrap();
    let weights = copy.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let embedding = tensors.tensor("model.embed_tokens.weight").unwrap();
    let all = tensors.tensors().into_iter().chain([("lm_head.weight".to_string(), embedding)]);
    safetensors::serialize_to_file(all, None, &weights).unwrap();
    copy
}

#[test]
fn a_server_of_an_untied_copy_gets_the_unembedding_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = ContractServer::start(&untied(folder.path()));
    train_and_agree(&server, &folder.path().join("run"), &["optimizer.learning_rate=1e-3"]);
    assert!(server.folders().iter().all(|names| names.iter().any(|name| name == "lm_head.weight")));
}

/// Trains both phases; the log-probs of the server must be those of training in every step.
fn train_and_agree(server: &ContractServer, out: &Path, more: &[&str]) {
    for line in train(out, &train_args("vllm", &[server], [2, 2], more)) {
        assert!(line["sampling_logp_difference_max"].as_f64().unwrap() < 1e-3, "{line}");
    }
}

#[test]
fn an_adapter_is_handed_over_merged() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    train_and_agree(&server, &folder.path().join("run"), &["lora.rank=4", "optimizer.learning_rate=1e-2"]);
    assert!(server.folders().len() == 5 && !server.folders().concat().iter().any(|name| name.contains("lora")));
}

/// As vLLM does with `--enable-lora`; a server that is started again in between gets it again.
#[test]
fn an_adapter_alone_is_handed_over_to_a_server_that_loads_adapters() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    server.take_adapters();
    server.fail_next(&[Fault::Restart(300)]);
    let out = folder.path().join("run");
    train_and_agree(&server, &out, &["lora.rank=4", "optimizer.learning_rate=1e-2"]);
    assert_eq!(server.folders(), Vec::<Vec<String>>::new());
    let [adapter] = &server.adapters()[..] else { panic!("one adapter is kept: {:?}", server.adapters()) };
    assert!(adapter.starts_with("step-000004"), "{adapter}");
    let written = out.join("weights").join(adapter).join("adapter_model.safetensors");
    assert!(fs::metadata(written).unwrap().len() < 1 << 20);
}

#[test]
fn servers_share_the_prompts() {
    let (one, two, folder) = (start(), start(), tempfile::tempdir().unwrap());
    let args = train_args("vllm", &[&one, &two], [1, 1], &["rollout.concurrency=1"]);
    train(&folder.path().join("run"), &args);
    // Two steps and two evaluations of four prompts each.
    assert_eq!(one.requests() + two.requests(), 16);
    assert!(one.requests() > 0 && two.requests() > 0);
    assert_eq!((one.folders().len(), two.folders().len()), (3, 3));
}

#[test]
fn an_evaluation_by_servers_is_that_of_the_own_generation() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    let rows = folder.path().join("rows.jsonl");
    rows::arithmetic(&rows, 6);
    let eval = |out: &str, more: &[&str]| {
        let out = folder.path().join(out);
        let mut args = vec!["eval", "--data", text(&rows), "--chat-template", "none", "--rule", "numeric"];
        args.extend(["--max-new-tokens", "24", "--samples", "2", "--temperature", "0", "--out", text(&out)]);
        args.extend(more);
        succeed(&args);
        lines(&out.join("completions.jsonl"))
    };
    let own = eval("own", &[]);
    for engine in ["vllm", "sglang"] {
        let servers = eval(engine, &["--engine", engine, "--url", &server.url]);
        assert_eq!(servers, own, "{engine}");
    }
    assert_eq!(own.len(), 12);
}

#[test]
fn an_analysis_measures_the_responses_of_servers() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    let out = folder.path().join("analysis");
    let args = ["analyze", "--limit", "3", "--samples", "2", "--max-new-tokens", "16", "--out", text(&out)];
    succeed(&[&args[..], &["--engine", "vllm", "--url", &server.url]].concat());
    assert_eq!(server.requests(), 3);
    assert!(out.join("summary.json").exists());
}

#[test]
fn the_responses_to_a_prompt_are_reported_once() {
    let server = start();
    let settings = RemoteSettings {
        kind: EngineKind::Vllm,
        urls: vec![server.url.clone()],
        timeout: Duration::from_secs(5),
        concurrency: 2,
    };
    let config = load_config(&ModelFiles::folder(&model()).unwrap()).unwrap();
    let engine = RemoteEngine::connect(&settings, &config, 16).unwrap();
    let options = GenerateOptions {
        site: PolicySite::Full,
        norm: Norm::None,
        temperature: 1.0,
        sampling: SamplingParams::default(),
        max_new_tokens: 4,
        eos_token_ids: vec![256],
        seed: 0,
        first_row: 0,
        batch: 1,
    };
    let request = SampleRequest { prompts: vec![vec![1, 2]; 3], samples: 2, options, stop: Vec::new() };
    let reported = Mutex::new(Vec::new());
    server.fail_next(&[Fault::Status(500)]);
    let rollouts = engine.sample(&request, &|done| reported.lock().unwrap().push(done)).unwrap();
    assert_eq!((rollouts.responses.len(), reported.into_inner().unwrap()), (6, vec![2; 3]));
}

#[test]
fn a_server_that_fails_twice_is_asked_again() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    let faults = [
        Fault::Status(500),
        Fault::Drop,
        Fault::Cut,
        Fault::NotJson,
        Fault::Short,
        Fault::Empty,
        Fault::TooLong,
        Fault::Id,
        Fault::Nan,
        Fault::FewLogProbs,
        Fault::Abort,
        Fault::Context,
        Fault::OtherEnd,
        Fault::Status(429),
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        server.fail_next(&[fault, fault]);
        let out = folder.path().join(index.to_string());
        // One prompt at a time, so that both faults are of one prompt.
        let metrics = train(&out, &train_args("vllm", &[&server], [0, 1], &["rollout.concurrency=1"]));
        assert_eq!(steps(&metrics), [1], "{fault:?}");
        assert!(metrics[0]["sampling_logp_difference_max"].as_f64().unwrap() < 1e-3, "{fault:?}");
    }
}

#[test]
fn a_server_that_keeps_failing_ends_the_run_with_one_sentence_and_no_step_lost() {
    let cases = [
        (Fault::Status(500), "status 500: the engine is upset"),
        (Fault::Status(400), "refuses the request with status 400: the engine is upset"),
        (Fault::Drop, "the connection failed"),
        (Fault::Slow(9000), "more than 3 s"),
        (Fault::NotJson, "not JSON"),
        (Fault::Short, "1 responses, not 2"),
        (Fault::Empty, "0 tokens"),
        (Fault::TooLong, "tokens, not 1 to 32"),
        (Fault::Id, "token id 1000000"),
        (Fault::Nan, "log-prob of NaN"),
        (Fault::FewLogProbs, "log-probs"),
        (Fault::Abort, "`abort`"),
        (Fault::Context, "cut after 1 of 32 tokens"),
        (Fault::OtherEnd, "no end-of-sequence token"),
        (Fault::RawLogProbs, "--logprobs-mode processed_logprobs"),
    ];
    for (fault, expected) in cases {
        let (server, folder) = (start(), tempfile::tempdir().unwrap());
        let out = folder.path().join("run");
        server.fail_always(Some(fault));
        let error = train_fails(&out, &train_args("vllm", &[&server], [1, 1], &["rollout.timeout=3"]));
        assert!(error.contains(expected), "{fault:?}: {error}");
        server.fail_always(None);
        succeed(&["train", "--resume", text(&out)]);
        assert_eq!(steps(&lines(&out.join("metrics.jsonl"))), [1, 2], "{fault:?}");
    }
}

#[test]
fn a_run_that_fails_late_is_resumed_after_its_last_step() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    let (out, whole) = (folder.path().join("run"), folder.path().join("whole"));
    let args = train_args("vllm", &[&server], [1, 3], &["rollout.concurrency=1"]);
    // Four requests of the evaluation, eight of two steps; then the server fails in step 3.
    let works = [Fault::Slow(0); 13];
    server.fail_next(&works);
    server.fail_always(Some(Fault::Nan));
    let error = train_fails(&out, &args);
    assert!(error.contains("failed 3 times"), "{error}");
    assert!(out.join("checkpoints/step-000002").exists());
    server.fail_always(None);
    succeed(&["train", "--resume", text(&out)]);
    let resumed = lines(&out.join("metrics.jsonl"));
    // The same prompts in the same order as without the failure.
    let expected = train(&whole, &args);
    assert_eq!(steps(&resumed), [1, 2, 3, 4]);
    for (resumed, expected) in resumed.iter().zip(&expected) {
        for key in ["reward", "response_length", "loss", "grad_norm"] {
            let (resumed, expected) = (resumed[key].as_f64().unwrap(), expected[key].as_f64().unwrap());
            assert!((resumed - expected).abs() <= 1e-4 * (1.0 + expected.abs()), "{key}: {resumed} for {expected}");
        }
    }
}

#[test]
fn a_server_that_restarts_within_a_step_gets_its_weights_again() {
    for engine in ["vllm", "sglang"] {
        let (server, folder) = (start(), tempfile::tempdir().unwrap());
        // In step 2, whose weights the restarted server does not have.
        let mut faults = vec![Fault::Slow(0); 9];
        faults.push(Fault::Restart(1500));
        server.fail_next(&faults);
        let more = ["rollout.concurrency=2", "optimizer.learning_rate=1e-3"];
        let metrics = train(&folder.path().join("run"), &train_args(engine, &[&server], [0, 3], &more));
        assert_eq!(steps(&metrics), [1, 2, 3], "{engine}");
        assert!(metrics[1]["sampling_logp_difference_max"].as_f64().unwrap() < 1e-3, "{engine}: {}", metrics[1]);
        let kinds: Vec<&str> = metrics[1]["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|warning| warning["kind"].as_str().unwrap())
            .collect();
        assert!(kinds.contains(&"server_recovered"), "{engine}: {kinds:?}");
    }
}

#[test]
fn weights_that_are_not_loaded_end_the_run() {
    let cases = [
        (Loading::Pretends, "has not loaded these"),
        (Loading::Forgets, "it has the weights `default`"),
        (Loading::Fails, "no room left"),
    ];
    for (loading, expected) in cases {
        let (server, folder) = (start(), tempfile::tempdir().unwrap());
        let out = folder.path().join("run");
        server.load(loading);
        // A large learning rate: the first weights are those that the server has.
        let more = ["optimizer.learning_rate=0.02", "rollout.max_logp_difference=0.05"];
        let error = train_fails(&out, &train_args("vllm", &[&server], [0, 4], &more));
        assert!(error.contains(expected), "{loading:?}: {error}");
    }
}

#[test]
fn sampling_ahead_is_one_step_old_and_corrected() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    let more = ["rollout.ahead=1", "optimizer.learning_rate=1e-3", "evaluation.every=2"];
    let metrics = train(&folder.path().join("run"), &train_args("vllm", &[&server], [2, 3], &more));
    assert_eq!(steps(&metrics), [1, 2, 3, 4, 5]);
    let staleness: Vec<u64> = metrics.iter().map(|line| line["staleness"].as_u64().unwrap()).collect();
    assert_eq!(staleness, [0, 1, 1, 1, 1]);
    let spread: Vec<f64> = metrics.iter().map(|line| line["importance_ratio_std"].as_f64().unwrap()).collect();
    assert!(spread[0] < 1e-2 && spread[1..].iter().all(|std| *std > 1e-2), "{spread:?}");
}

#[test]
fn the_correction_can_be_chosen() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    for (mode, warned) in [("token-truncate", 0), ("sequence-truncate", 0), ("sequence-mask", 0), ("off", 1)] {
        let out = folder.path().join(mode);
        let pair = format!("rollout.correction.mode={mode}");
        let metrics = train(&out, &train_args("vllm", &[&server], [1, 0], &[&pair]));
        let warnings = metrics[0]["warnings"].as_array().map_or(0, Vec::len);
        assert_eq!(warnings, warned, "{mode}: {}", metrics[0]);
        assert_eq!(metrics[0].get("importance_ratio_mean").is_some(), mode != "off", "{mode}");
    }
}

#[test]
fn wrong_settings_of_servers_are_refused_before_work_starts() {
    let (server, folder) = (start(), tempfile::tempdir().unwrap());
    let other = ContractServer::start(&program::fixture("qwen3-tied"));
    let out = folder.path().join("run");
    let url = format!("rollout.urls=['{}']", server.url);
    let cases: [(&[&str], &str); 9] = [
        (&["rollout.engine=vllm"], "rollout.urls is empty"),
        (&[&url], "no effect with rollout.engine"),
        (&["rollout.ahead=1"], "no effect with rollout.engine"),
        (&["rollout.engine=vllm", "rollout.urls=['http://127.0.0.1:9']"], "does not answer"),
        (&["rollout.engine=vllm", "rollout.urls=['localhost']"], "not the address of a server"),
        (&["rollout.engine=vllm", &url, "rollout.ahead=2"], "0 or 1"),
        (&["rollout.engine=vllm", &url, "rollout.correction.max=0"], "positive number"),
        (&["rollout.correction.max=3"], "without a rollout.correction.mode"),
        (&["rollout.engine=vllm", &url, "rollout.max_new_tokens=600"], "context of 512 tokens"),
    ];
    for (pairs, expected) in cases {
        let pairs: Vec<&str> = pairs.iter().flat_map(|pair| ["--set", *pair]).collect();
        let error = fail(&[&["train", "--out", text(&out)][..], &pairs].concat());
        assert!(error.contains(expected), "{pairs:?}: {error}");
        assert!(!out.exists());
    }
    for (args, expected) in [
        (&["eval", "--data", "x.jsonl", "--engine", "vllm"][..], "needs the address"),
        (&["eval", "--data", "x.jsonl", "--url", "http://127.0.0.1:9"], "no effect with --engine own"),
        (&["eval", "--data", "x.jsonl", "--engine", "vllm", "--url", "x", "--dtype", "f32"], "--dtype"),
        (&["analyze", "--engine", "sglang"], "needs the address"),
        (&["analyze", "--engine", "vllm", "--url", &other.url], "serves another model"),
        (&["analyze", "--engine", "llama"], "no engine `llama`"),
    ] {
        let error = program::bupo(args);
        assert!(!error.status.success());
        let error = String::from_utf8(error.stderr).unwrap();
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}
