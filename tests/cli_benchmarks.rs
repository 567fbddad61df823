//! Evaluation of a run on several benchmarks, each with its own sampling.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;

use program::rows::arithmetic;
use program::runs::{assert_same_run, interrupted, timeless};
use program::{check_page, fail, lines, succeed, text};
use serde_json::Value;

/// Settings of a run of four steps on `train.jsonl` that is evaluated on `few.jsonl` and `many.jsonl` in a folder.
fn settings(folder: &Path) -> String {
    arithmetic(&folder.join("train.jsonl"), 30);
    arithmetic(&folder.join("few.jsonl"), 4);
    arithmetic(&folder.join("many.jsonl"), 20);
    let place = folder.display();
    format!(
        "[data]\ntrain = [\"{place}/train.jsonl\"]\n[reward]\nrule = \"numeric\"\n\
         [rollout]\nprompts = 4\ngroup_size = 4\nmax_new_tokens = 12\n[update]\nmini_batch_prompts = 2\n\
         [optimizer]\nlearning_rate = 1e-3\n[checkpoint]\nevery = 1\nkeep_last = 100\n[probe]\nevery = 2\n\
         [[phases]]\nsite = \"full\"\nsteps = 4\n\
         [evaluation]\nsamples = 3\nevery = 1\npatience = 9\n\
         [[evaluation.benchmarks]]\nname = \"sampled\"\nfile = \"{place}/few.jsonl\"\nsamples = 6\nmax_new_tokens = 2\n\
         temperature = 0.8\ntop_p = 0.9\n\
         [[evaluation.benchmarks]]\nfile = \"{place}/many.jsonl\"\nproblems = 10\nsamples = 1\ntemperature = 0.0\n"
    )
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn benchmarks_have_their_own_sampling_and_their_mean_decides() {
    let folder = tempfile::tempdir().unwrap();
    let (config, run) = (folder.path().join("run.toml"), folder.path().join("run"));
    fs::write(&config, settings(folder.path())).unwrap();
    let shown = succeed(&["train", "--config", text(&config), "--out", text(&run)]);
    for wanted in [
        "14 held-out problems, 1 to 6 samples each",
        "sampled (4 problems, Avg@6)",
        "many (10 problems, Avg@1)",
        "  sampled: Avg@6",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let evaluation = json(&run.join("evaluation.json"));
    let [sampled, many] = &evaluation["before_by_benchmark"].as_array().unwrap()[..] else { panic!("{evaluation}") };
    assert_eq!(
        (&sampled["benchmark"], &sampled["samples"], &sampled["problems"]),
        (&"sampled".into(), &6.into(), &4.into())
    );
    assert_eq!((&many["benchmark"], &many["samples"], &many["problems"]), (&"many".into(), &1.into(), &10.into()));
    // The length limit is the benchmark's own.
    let longest = |result: &Value| {
        let of = |name: &str| result[name]["p90"].as_f64().unwrap_or(0.0);
        of("length_right").max(of("length_wrong"))
    };
    assert!(longest(sampled) <= 2.0 && longest(many) > 2.0, "{sampled} {many}");

    // Each evaluation has the unweighted mean, and the best one is by it.
    let evaluations = lines(&run.join("evaluations.jsonl"));
    assert_eq!(evaluations.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let mut best = (0, f64::NEG_INFINITY);
    for line in &evaluations {
        for key in ["avg_at_k", "maj_at_k"] {
            let each: Vec<f64> =
                line["benchmarks"].as_array().unwrap().iter().map(|of| of[key].as_f64().unwrap()).collect();
            let mean = line[key].as_f64().unwrap();
            assert!((mean - (each[0] + each[1]) / 2.0).abs() < 1e-12, "{key}: {line}");
        }
        let average = line["avg_at_k"].as_f64().unwrap();
        if average > best.1 {
            best = (line["step"].as_u64().unwrap(), average);
        }
    }
    assert_eq!(evaluation["best_step"].as_u64(), Some(best.0));
    assert_eq!(evaluation["after"]["avg_at_k"], evaluations[4]["avg_at_k"]);
    let events = fs::read_dir(run.join("tensorboard")).unwrap().next().unwrap().unwrap().path();
    let events = fs::read(events).unwrap();
    for tag in
        ["evaluation/avg_at_k", "evaluation/maj_at_k", "evaluation/sampled/maj_at_k", "evaluation/many/pass_at_k"]
    {
        assert!(events.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag}");
    }
    let page = check_page(&run.join("report.html"));
    assert!(page.contains("Avg@K on held-out problems") && page.contains("maj@"), "the page has the evaluations");
    assert!(page.contains("sampled: Avg@6") && page.contains("many: Avg@1"), "the page has the benchmarks");

    // Stopped between evaluations, it continues with the same ones.
    let stopped = interrupted(&run, &folder, 2);
    succeed(&["train", "--resume", text(&stopped)]);
    assert_same_run(&run, &stopped, "resumed");
    assert_eq!(timeless(&run, "evaluations.jsonl"), timeless(&stopped, "evaluations.jsonl"));
    let message = fail(&["train", "--resume", text(&run), "--set", "evaluation.benchmarks.0.samples=2"]);
    assert!(message.contains("evaluation.benchmarks.0.samples cannot change"), "{message}");
    check_against_eval(folder.path(), many);
    check_alone(folder.path(), sampled);
}

/// Greedy decoding has no random numbers: the benchmark's numbers are those of `bupo eval`.
fn check_against_eval(folder: &Path, many: &Value) {
    // The rows at even distances: every second one.
    let rows: Vec<Value> = lines(&folder.join("many.jsonl")).into_iter().step_by(2).collect();
    program::rows::write_lines(&folder.join("half.jsonl"), &rows);
    let (data, out) = (folder.join("half.jsonl"), folder.join("eval"));
    let args = ["eval", "--data", text(&data), "--samples", "1", "--temperature", "0", "--rule", "numeric"];
    let shown = succeed(&[&args[..], &["--max-new-tokens", "12", "--out", text(&out)]].concat());
    for wanted in ["maj@1", "right p10/50/90", "wrong p10/50/90"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let results = json(&out.join("results.json"));
    for key in
        ["problems", "avg_at_k", "pass_at", "maj_at_k", "response_length", "length_right", "length_wrong", "truncated"]
    {
        assert_eq!(results[0][key], many[key], "{key}");
    }
}

/// A benchmark's responses do not depend on the benchmarks after it.
fn check_alone(folder: &Path, sampled: &Value) {
    let (config, run) = (folder.join("alone.toml"), folder.join("alone"));
    let settings = settings(folder);
    let (alone, _) = settings.rsplit_once("[[evaluation.benchmarks]]").unwrap();
    fs::write(&config, alone).unwrap();
    succeed(&["train", "--config", text(&config), "--set", "phases.0.steps=1", "--out", text(&run)]);
    let evaluation = json(&run.join("evaluation.json"));
    assert_eq!(&evaluation["before_by_benchmark"][0], sampled);
}

#[test]
fn benchmarks_that_cannot_be_read_are_refused_before_work_starts() {
    let folder = tempfile::tempdir().unwrap();
    let (config, run) = (folder.path().join("run.toml"), folder.path().join("run"));
    fs::write(&config, settings(folder.path())).unwrap();
    fs::remove_file(folder.path().join("many.jsonl")).unwrap();
    let args = ["train", "--config", text(&config), "--out", text(&run)];
    let message = fail(&args);
    assert!(message.contains("many.jsonl"), "{message}");
    assert!(!run.exists());
    let shown = succeed(&["config", "check", text(&config)]);
    assert!(shown.contains("few.jsonl\n") && shown.contains("many.jsonl  (there is no such file)"), "{shown}");
    let message = fail(&[&args[..], &["--set", "evaluation.benchmarks.1.name=sampled"]].concat());
    assert!(message.contains("give it a name of its own"), "{message}");
}
