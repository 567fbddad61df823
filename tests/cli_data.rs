//! Data files, grading and settings.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;

use program::rows::{arithmetic, verl, write_lines};
use program::{fail, lines, succeed, text};
use serde_json::{Value, json};

#[test]
fn grade_writes_all_lines_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    write_lines(
        &input,
        &[
            json!({"response": "so \\boxed{0.25}", "answer": "\\frac{1}{4}", "id": 7}),
            json!({"response": "nothing", "answer": "3"}),
            json!({"response": "\\boxed{\\dfrac{1}{4}}", "answer": "\\frac{1}{4}"}),
            json!({"response": "\\boxed{12}", "answer": 12}),
        ],
    );
    for (rule, scores) in [("strict", [0.0, 0.0, 1.0, 1.0]), ("equivalent", [1.0, 0.0, 1.0, 1.0])] {
        succeed(&["grade", "--rule", rule, "--input", text(&input), "--out", text(&out), "--force"]);
        let graded = lines(&out);
        let ours: Vec<f64> = graded.iter().map(|line| line["score"].as_f64().unwrap()).collect();
        assert_eq!(ours, scores, "{rule}");
        assert_eq!((&graded[0]["id"], &graded[1]["response"]), (&json!(7), &json!("nothing")));
        assert!(graded[1]["extracted"].is_null() || rule == "equivalent");
    }
}

#[test]
fn grade_reports_bad_lines_and_keeps_the_existing_output() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    fs::write(&out, "existing").unwrap();
    for (line, expected) in [
        ("{\"response\": \"a\"}", "line 2: there is no `answer`"),
        ("{\"response\": [], \"answer\": \"b\"}", "line 2: `response` is not text"),
        ("no json", "line 2"),
    ] {
        fs::write(&input, format!("{{\"response\": \"a\", \"answer\": \"b\"}}\n{line}\n")).unwrap();
        let message = fail(&["grade", "--rule", "strict", "--input", text(&input), "--out", text(&out), "--force"]);
        assert!(message.contains(expected), "{message}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "existing");
    }
    let unknown = program::bupo(&["grade", "--rule", "nice", "--input", text(&input), "--out", text(&out)]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nice"));
    fs::write(&input, "{\"response\": \"a\", \"answer\": \"b\"}\n").unwrap();
    let rule = "command:/no/such/scorer";
    let missing = fail(&["grade", "--rule", rule, "--input", text(&input), "--out", text(&out), "--force"]);
    assert!(missing.contains("/no/such/scorer"), "{missing}");
}

#[test]
fn data_shows_columns_sources_lengths_and_prompts() {
    let shown = succeed(&["data", text(&verl())]);
    for expected in ["reward_model.ground_truth", "data_source", "sources", "lengths in tokens", "prompt 3"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let message = fail(&["data", text(&verl()), "--prompt-column", "nothing"]);
    assert!(message.contains("nothing") && message.contains("prompt"), "{message}");
    let message = fail(&["data", "/no/such/file.parquet"]);
    assert!(message.contains("/no/such/file.parquet"), "{message}");
}

#[test]
fn data_takes_the_settings_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, config) = (folder.path().join("rows.jsonl"), folder.path().join("run.toml"));
    write_lines(&rows, &[json!({"asked": "1+1=", "prompt": "unused", "answer": "1+1=2\n#### 2"})]);
    fs::write(&config, format!("[data]\ntrain = ['{}']\nprompt_column = 'asked'\n", text(&rows))).unwrap();
    let shown = succeed(&["data", "--config", text(&config), "--set", "data.max_prompt_tokens=2"]);
    for expected in ["1 rows", "1 by ####", "answer 2)", "1+1=", "1 prompts are longer than the limit of 2 tokens"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let unchanged = succeed(&["data", text(&rows), "--set", "data.extract_answers=false"]);
    assert!(!unchanged.contains("1 by ####") && unchanged.contains("unused"), "{unchanged}");
    let message = fail(&["data", "--set", "seed=1"]);
    assert!(message.contains("data.train"), "{message}");
    let message = fail(&["data", "--set", "data.promt_column=a", text(&rows)]);
    assert!(message.contains("promt_column"), "{message}");
}

/// Presets that have phases of their own.
#[test]
fn phases_have_further_sites_and_losses_without_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let run = |loss: &str, phases: &[&str]| {
        let out = folder.path().join(loss);
        let loss = format!("loss={loss}");
        let small = [
            loss.as_str(),
            "rollout.prompts=4",
            "update.mini_batch_prompts=2",
            "rollout.group_size=8",
            "rollout.max_new_tokens=12",
            "evaluation.problems=3",
            "evaluation.samples=1",
        ];
        let sets: Vec<&str> = small.iter().chain(phases).flat_map(|setting| ["--set", setting]).collect();
        succeed(&[&["train", "--out", text(&out)], &sets[..]].concat());
        lines(&out.join("metrics.jsonl"))
    };
    let oisd = run("oisd", &["phases.0.steps=2", "phases.0.sites.0.site=layer:4", "phases.0.sites.0.weight=0.1"]);
    assert_eq!(oisd.len(), 2);
    assert!(
        oisd.iter().all(|line| line["site"] == "full" && line["site_divergence"].as_f64().unwrap() > 0.0),
        "{oisd:?}"
    );
    let dsrl = run("dsrl", &["phases.0.steps=1", "phases.1.steps=1"]);
    assert_eq!((&dsrl[0]["phase"], &dsrl[1]["phase"]), (&json!(1), &json!(2)));
    assert!(dsrl[0].get("site_divergence").is_none());
    // Without its prompt a response is less certain.
    let entropy = |line: &Value| line["entropy"].as_f64().unwrap();
    assert!(entropy(&dsrl[0]) > 1.5 * entropy(&dsrl[1]), "{dsrl:?}");
    // Each step's first update has ratios of 1 in both.
    assert!(dsrl.iter().all(|line| line["first_ratio"] == 1.0));
}

#[test]
fn train_on_files_supports_every_loss() {
    let folder = tempfile::tempdir().unwrap();
    let sums = folder.path().join("sums.jsonl");
    arithmetic(&sums, 12);
    let data = format!("data.train=['{}']", text(&sums));
    for (loss, more) in [
        ("grpo", "objective.kl_coefficient=0.1"),
        ("dr-grpo", "seed=1"),
        ("rloo", "objective.entropy_coefficient=0.01"),
        ("reinforce++", "objective.kl_estimator=k1"),
        ("dapo", "rollout.max_draws=2"),
        ("gspo", "seed=1"),
        ("psr", "objective.kl_estimator=k3+"),
        ("nsr", "update.epochs=2"),
        ("w-reinforce", "seed=1"),
        ("cispo", "objective.reward_kl.coefficient=0.1"),
        ("sapo", "objective.scale_rewards=batch"),
        ("gmpo", "objective.scale_rewards=none"),
        ("clip-cov", "objective.covariance.low=-9.0"),
        ("kl-cov", "objective.top_entropy_share=0.5"),
        ("high-entropy", "rollout.max_draws=2"),
    ] {
        let out = folder.path().join(loss);
        let loss = format!("loss={loss}");
        let settings = [
            data.as_str(),
            &loss,
            more,
            "reward.rule=numeric",
            "rollout.prompts=4",
            "update.mini_batch_prompts=2",
            "rollout.group_size=4",
            "rollout.max_new_tokens=8",
            "evaluation.problems=3",
            "evaluation.samples=2",
            "phases.0.steps=1",
            "phases.1.steps=1",
        ];
        let sets: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let shown = succeed(&[&["train", "--out", text(&out)], &sets[..]].concat());
        assert!(shown.contains("9 rows to train on, 3 held out"), "{shown}");
        let metrics = lines(&out.join("metrics.jsonl"));
        assert_eq!((metrics.len(), &metrics[0]["site"]), (2, &json!("layer:3")), "{loss}");
        assert_eq!(
            metrics[0].get("ref_kl").is_some(),
            more.contains("kl_coefficient") || more.contains("reward_kl"),
            "{loss}"
        );
        let chooses = ["clip-cov", "kl-cov", "high-entropy"].iter().any(|name| loss.ends_with(name));
        assert_eq!(metrics[0].get("left_out_ratio").is_some(), chooses && metrics[0]["loss"].is_number(), "{loss}");
        if loss == "loss=grpo" {
            // Two draws of 4 prompts out of 9 rows, of two sources.
            let epochs: Vec<_> = metrics.iter().map(|line| line["epoch"].as_f64().unwrap()).collect();
            assert_eq!(epochs, [4.0 / 9.0, 8.0 / 9.0]);
            let by_source: Vec<_> = metrics.iter().filter_map(|line| line["reward_by_source"].as_object()).collect();
            assert!(!by_source.is_empty(), "{metrics:?}");
            let events = fs::read_dir(out.join("tensorboard")).unwrap().next().unwrap().unwrap().path();
            let events = String::from_utf8_lossy(&fs::read(events).unwrap()).into_owned();
            for tag in ["train/epoch", "train/policy_kl", "train/response_length_max", "train/reward_by_source/s1"] {
                assert!(events.contains(tag), "{tag}");
            }
            for rewards in by_source {
                assert!(rewards.keys().eq(["s0", "s1"]) && rewards.values().all(Value::is_number), "{rewards:?}");
            }
        }
        for completion in lines(&out.join("completions.jsonl")) {
            assert!(completion["data_source"].as_str().unwrap().starts_with('s'));
        }
    }
}

#[test]
fn unusable_files_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let sums = folder.path().join("sums.jsonl");
    arithmetic(&sums, 40);
    let data = format!("data.train=['{}']", text(&sums));
    for (setting, expected) in [
        ("evaluation.problems=40", "hold them out"),
        ("rollout.prompts=64", "64"),
        ("data.answer_column=nothing", "nothing"),
        ("data.max_prompt_tokens=1", "data.max_prompt_tokens"),
        ("data.train=['/no/such.parquet']", "/no/such.parquet"),
        ("reward.rule=command:/no/such/scorer", "/no/such/scorer"),
        ("data.chat_template=/no/such.jinja", "/no/such.jinja"),
    ] {
        let out = folder.path().join("run");
        let sets = ["--set", &data, "--set", "evaluation.problems=2", "--set", setting];
        let message = fail(&[&["train", "--out", text(&out)], &sets[..]].concat());
        assert!(message.contains(expected), "{setting}: {message}");
        assert!(!out.exists(), "{setting}");
    }
}

#[test]
fn config_prints_the_defaults_and_checks_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("defaults.toml");
    fs::write(&file, succeed(&["config"])).unwrap();
    let shown = succeed(&["config", "check", text(&file)]);
    for expected in
        ["phase 1: layer:3", "phase 2: full", "32 prompts x 8 responses", "optimizer", "activations", "cache"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let open = succeed(&["config", "check", text(&file), "--set", "phases.0.layer=auto"]);
    assert!(open.contains("phase 1: auto, at most layer:6"), "{open}");
    fs::write(&file, "[rollout]\nprompts = 7\n").unwrap();
    let message = fail(&["config", "check", text(&file)]);
    assert!(message.contains("does not divide"), "{message}");
}

/// The files of `configs/` load and have the phases of the paper.
#[test]
fn the_recipes_of_the_paper_are_those_of_its_table() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let folder = tempfile::tempdir().unwrap();
    for (name, model_type, layers, layer, steps) in [
        ("qwen3-4b", "qwen3", 36, 6, 30),
        ("qwen3-8b", "qwen3", 36, 6, 20),
        ("octothinker-3b", "llama", 28, 27, 20),
        ("octothinker-8b", "llama", 32, 31, 20),
    ] {
        let config = json!({"model_type": model_type, "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16});
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let check = |algorithm: &str| {
            let file = configs.join(format!("{name}-{algorithm}.toml"));
            succeed(&["config", "check", text(&file), "--model", text(folder.path())])
        };
        let bupo = check("bupo");
        let first =
            format!("phase 1: layer:{layer} (norm none), {steps} steps, {} updates, runs {layer} layers", steps * 4);
        let second = format!("phase 2: full (norm none), {} steps", 300 - steps);
        assert!(bupo.contains(&first) && bupo.contains(&second), "{bupo}");
        let grpo = check("grpo");
        assert!(
            grpo.contains("phase 1: full (norm none), 300 steps, 1200 updates") && !grpo.contains("phase 2"),
            "{grpo}"
        );
    }
}

#[test]
fn grade_does_not_overwrite_its_input_or_an_existing_file() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    let line = json!({"response": "\\boxed{1}", "answer": "1"});
    write_lines(&input, std::slice::from_ref(&line));
    let indirect = folder.path().join(".").join("in.jsonl");
    for target in [&input, &indirect] {
        let args = ["grade", "--rule", "strict", "--input", text(&input), "--out", text(target), "--force"];
        assert!(fail(&args).contains("is the input file"));
        assert_eq!(lines(&input), std::slice::from_ref(&line));
    }
    fs::write(&out, "existing").unwrap();
    let args = ["grade", "--rule", "strict", "--input", text(&input), "--out", text(&out)];
    assert!(fail(&args).contains("--force"));
    assert_eq!(fs::read_to_string(&out).unwrap(), "existing");
    succeed(&[&args[..], &["--force"]].concat());
    assert_eq!(lines(&out)[0]["score"], json!(1.0));
}

#[test]
fn grade_skips_empty_lines_and_a_byte_order_mark() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    fs::write(&input, "\u{feff}{\"response\": \"a\", \"answer\": \"b\"}\r\n\n  \n{\"response\": 5, \"answer\": 5}")
        .unwrap();
    succeed(&["grade", "--rule", "exact", "--input", text(&input), "--out", text(&out)]);
    assert_eq!(lines(&out).iter().map(|line| line["score"].as_f64().unwrap()).collect::<Vec<_>>(), [0.0, 1.0]);
    fs::write(&input, "{\"response\": \"a\", \"answer\": \"b\"}\n\n{\"response\": \"a\"}\n").unwrap();
    let message = fail(&["grade", "--rule", "exact", "--input", text(&input), "--out", text(&out), "--force"]);
    assert!(message.contains("line 3: there is no `answer`"), "{message}");
}

/// A scorer that fails is reported on standard error, in the printed summary and in the output lines.
#[cfg(unix)]
#[test]
fn failures_of_a_scorer_are_reported() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    let scorer = folder.path().join("scorer");
    fs::write(&scorer, "#!/bin/sh\ncat > /dev/null\nexit 3\n").unwrap();
    fs::set_permissions(&scorer, fs::Permissions::from_mode(0o755)).unwrap();
    write_lines(
        &input,
        &[json!({"response": "1", "answer": "1", "failure": "earlier"}), json!({"response": "2", "answer": "3"})],
    );
    let rule = format!("command:{}", text(&scorer));
    let output = program::bupo(&["grade", "--rule", &rule, "--input", text(&input), "--out", text(&out)]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(stdout.contains("2 scorer failures"), "{stdout}");
    assert!(stderr.contains("the scorer failed on 2 responses"), "{stderr}");
    let graded = lines(&out);
    assert!(graded.iter().all(|line| line["score"] == 0.0 && line["failure"].is_string()), "{graded:?}");
    assert_ne!(graded[0]["failure"], "earlier");
    succeed(&["grade", "--rule", "exact", "--input", text(&out), "--out", text(&folder.path().join("again.jsonl"))]);
    let again = lines(&folder.path().join("again.jsonl"));
    assert!(again[0]["score"] == 1.0 && again.iter().all(|line| line.get("failure").is_none()), "{again:?}");
}

#[test]
fn config_check_compares_the_peak_with_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    fs::write(&file, "[rollout]\nbatch = 2048\n").unwrap();
    let check = |more: &[&str]| succeed(&[&["config", "check"], more].concat());
    let by_position = check(&[text(&file), "--memory-limit", "120MB"]);
    assert_eq!(by_position, check(&["--config", text(&file), "--memory-limit", "120MB"]));
    assert!(by_position.contains("does not fit") && by_position.contains("rollout.batch 2048 -> "), "{by_position}");
    let fits = check(&[text(&file), "--memory-limit", "8GiB"]);
    assert!(fits.contains("the run fits") && fits.contains("memory limit 8.0 GiB"), "{fits}");
    let refused = check(&[text(&file), "--memory-limit", "1MB"]);
    assert!(refused.contains("train would refuse it"), "{refused}");
    let by_device = check(&["--device", "cpu", "--set", "rollout.batch=8"]);
    assert!(
        by_device.contains("device cpu\nusable memory ") && by_device.contains("90% of the free memory"),
        "{by_device}"
    );

    // A dry run of train prints the same and writes nothing.
    let out = folder.path().join("run");
    let settings = ["--config", text(&file), "--memory-limit", "120MB"];
    let dry = succeed(&[&["train", "--dry-run", "--out", text(&out)], &settings[..]].concat());
    assert_eq!(dry, check(&[&settings[..], &["--device", &program::device()]].concat()));
    assert!(!out.exists());
    let resumed = program::bupo(&["train", "--dry-run", "--resume", text(&out)]);
    assert!(String::from_utf8_lossy(&resumed.stderr).contains("cannot be used with"));
}

#[test]
fn data_shows_the_answers_taken_from_solutions() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("solutions.jsonl");
    let long = "first we add the numbers and then we see ".repeat(10);
    let answers = ["5+67 = 72\n#### 72", "So \\boxed{9}.", "12", &long];
    let rows: Vec<Value> = answers.iter().map(|answer| json!({"prompt": "1+1=", "answer": answer})).collect();
    write_lines(&data, &rows);
    let shown = succeed(&["data", text(&data)]);
    for expected in ["1 by ####", "1 long reference answers", "answer 72)", "answer 9)", "answer 12)"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn word_problems_are_rows_like_those_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let task = ["--set", "data.task=arithmetic-words"];
    let mut args = vec!["train", "--out", text(&out)];
    let few = ["phases.0.steps=1", "phases.1.steps=0", "rollout.prompts=2", "update.mini_batch_prompts=2"];
    let short = ["rollout.keep=all", "rollout.max_new_tokens=4", "evaluation.problems=3", "rollout.group_size=2"];
    args.extend(few.iter().chain(&short).flat_map(|setting| ["--set", setting]).chain(task));
    succeed(&args);
    let sampled = lines(&out.join("rollouts.jsonl"));
    let is_question = |line: &Value| line["prompt"].as_str().is_some_and(|text| text.contains("How many"));
    assert!(sampled.len() == 4 && sampled.iter().all(is_question), "{sampled:?}");
    assert!(lines(&out.join("metrics.jsonl"))[0]["epoch"].as_f64().unwrap() > 0.0);
    let check = [&["config", "check"][..], &task].concat();
    assert!(succeed(&check).contains("training data: word problems of arithmetic"));
    let message = program::fail(&[&check[..], &["--set", "data.train=['a.jsonl']"]].concat());
    assert!(message.contains("data.task generates problems, but data.train names files"), "{message}");
    let message = program::fail(&["config", "check", "--set", "data.task=words"]);
    assert!(message.contains("data.task") && message.contains("arithmetic-words"), "{message}");
}
