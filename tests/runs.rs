//! Whole runs of the embedded model: warnings, inputs on resume, forks, evaluations by benchmark, the saved dtype.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bupo::analysis::Boundary;
use bupo::eval::Evaluation;
use bupo::models::decoder::named_tensors;
use bupo::models::{ModelFiles, SaveDtype, SaveOptions, save_checkpoint};
use bupo::rl::{
    Outcome, Phase, Progress, RlError, RunHeader, Start, StepMetrics, TrainConfig, WarningKind, resumed_config, train,
};
use common::{B, load_folder};
use serde_json::{Value, json};

const MODEL: &str = "models/arithmetic-1m";

#[derive(Default)]
struct Screen {
    questions: String,
    steps: Vec<StepMetrics>,
    warnings: Vec<String>,
    sampled: Mutex<Vec<(usize, usize)>>,
}

impl Progress for Screen {
    fn ready(&mut self, header: &RunHeader<'_>) {
        self.questions.clone_from(&header.questions);
    }
    fn evaluating(&mut self, _: &str) {}
    fn sampled(&self, done: usize, all: usize) {
        self.sampled.lock().unwrap().push((done, all));
    }
    fn evaluated(&mut self, _: &str, _: &Evaluation) {}
    fn boundary(&mut self, _: &Boundary) {}
    fn skipped_damaged(&mut self, _: &[bupo::rl::Damaged]) {}
    fn phase(&mut self, _: usize, _: &Phase, _: usize) {}
    fn step(&mut self, metrics: &StepMetrics) {
        self.steps.push(metrics.clone());
    }
    fn warning(&mut self, text: &str) {
        self.warnings.push(text.into());
    }
}

/// A step on layer 2 and one on the full policy, with few and short responses.
fn config(pairs: &[&str]) -> TrainConfig {
    let small = [
        "phases.0.site=layer:2",
        "phases.0.steps=1",
        "phases.1.steps=1",
        "rollout.prompts=4",
        "rollout.group_size=4",
        "rollout.max_new_tokens=16",
        "update.mini_batch_prompts=2",
        "evaluation.problems=6",
        "evaluation.samples=1",
        "probe.every=0",
    ];
    let pairs: Vec<String> = small.iter().chain(pairs).map(ToString::to_string).collect();
    TrainConfig::load(None, &pairs).unwrap()
}

fn run(config: &TrainConfig, model: &Path, folder: &Path, start: &Start) -> Result<(Outcome, Screen), RlError> {
    let files = ModelFiles::folder(model)?;
    let (mut screen, stop) = (Screen::default(), AtomicBool::new(false));
    let outcome = train::<B>(config, &files, folder, start, &stop, &Default::default(), &mut screen)?;
    Ok((outcome, screen))
}

fn start(config: &TrainConfig, folder: &Path) -> (Outcome, Screen) {
    run(config, MODEL.as_ref(), folder, &Start::New).unwrap()
}

fn resume(folder: &Path, pairs: &[&str]) -> Result<(Outcome, Screen), RlError> {
    let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
    run(&resumed_config(folder, &pairs)?, MODEL.as_ref(), folder, &Start::Resume)
}

/// Sums of two numbers, with answers as `answer` writes them.
fn write_sums(path: &Path, rows: usize, answer: impl Fn(usize) -> String) {
    let line = |row: usize| {
        let (a, b) = (row % 29 + 1, row * 7 % 30 + 1);
        json!({"prompt": format!("{a}+{b}="), "answer": answer(a + b)}).to_string() + "\n"
    };
    fs::write(path, (0..rows).map(line).collect::<String>()).unwrap();
}

fn with_data(train: &Path, pairs: &[&str]) -> TrainConfig {
    let train = format!("data.train=['{}']", train.display());
    let fixed = [train.as_str(), "data.prompt_column=prompt", "data.answer_column=answer", "reward.rule=exact"];
    config(&[&fixed, pairs].concat())
}

fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(metrics: &StepMetrics) -> Vec<WarningKind> {
    metrics.warnings.iter().map(|warning| warning.kind).collect()
}

#[test]
fn each_response_of_an_evaluation_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (_, screen) = start(&config(&["evaluation.samples=2"]), &folder.path().join("run"));
    // Before and after training.
    let once = (1..=12).map(|done| (done, 12));
    assert_eq!(*screen.sampled.lock().unwrap(), once.clone().chain(once).collect::<Vec<_>>());
}

#[test]
fn a_run_whose_rewards_cannot_change_warns_at_its_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let (_, screen) = start(&config(&["rollout.max_new_tokens=1"]), &folder.path().join("zero"));
    assert_eq!(kinds(&screen.steps[0]), [WarningKind::AllTruncated, WarningKind::AllRewardsZero]);
    // The other ways in which nothing is left to train on.
    for (name, pair, expected) in [
        (
            "mask",
            "reward.truncated=mask",
            vec![WarningKind::AllTruncated, WarningKind::AllRewardsZero, WarningKind::NoUpdate],
        ),
        (
            "draws",
            "rollout.max_draws=2",
            vec![WarningKind::AllTruncated, WarningKind::AllRewardsZero, WarningKind::NoUpdate],
        ),
    ] {
        let run = folder.path().join(name);
        let (outcome, screen) = start(&config(&["rollout.max_new_tokens=1", pair]), &run);
        assert_eq!(kinds(&screen.steps[0]), expected, "{name}");
        for key in ["loss", "grad_norm", "kl", "entropy", "clip_ratio", "first_ratio", "extreme_ratio"] {
            assert!(metrics(&run)[0][key].is_null(), "{name} {key}");
        }
        let weights = |folder: &Path| -> Vec<_> {
            named_tensors(&load_folder(folder).decoder).into_iter().map(|tensor| (tensor.name, tensor.data)).collect()
        };
        assert_eq!(weights(&outcome.model), weights(MODEL.as_ref()), "{name}: nothing was trained");
    }
    assert!(metrics(&folder.path().join("draws"))[0]["sampling_logp_difference"].is_null());
    let (_, screen) = start(&config(&[]), &folder.path().join("fine"));
    assert_eq!(kinds(&screen.steps[0]), []);
    // Measured beside the trained internal policy only.
    let full = screen.steps.iter().map(|step| step.policy.entropy_full.is_some()).collect::<Vec<_>>();
    assert_eq!(full, [true, false]);
}

#[test]
fn truncated_responses_are_graded_zeroed_or_masked() {
    let folder = tempfile::tempdir().unwrap();
    // A limit that most, but not all responses reach.
    let trained = |name: &str| {
        let pairs = ["rollout.max_new_tokens=8", "rollout.group_size=8", &format!("reward.truncated={name}")];
        start(&config(&pairs), &folder.path().join(name)).1.steps.remove(0)
    };
    let [grade, zero, mask] = ["grade", "zero", "mask"].map(trained);
    assert!((0.05..0.95).contains(&grade.rollout.truncated), "{}", grade.rollout.truncated);
    // The responses are the same; masked ones count in the rewards, not in the loss.
    assert_eq!(
        (grade.rollout.response_length, zero.rollout.response_length),
        (mask.rollout.response_length, mask.rollout.response_length)
    );
    assert!(zero.rollout.reward <= grade.rollout.reward);
    assert_eq!(mask.rollout.reward, grade.rollout.reward);
    assert_ne!(mask.update.loss, grade.update.loss);
    assert_ne!(mask.update.entropy, grade.update.entropy);
}

#[test]
fn a_run_is_resumed_with_the_files_it_was_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("sums.jsonl"), folder.path().join("run"));
    write_sums(&data, 40, |sum| sum.to_string());
    start(&with_data(&data, &[]), &run);
    let more = ["phases.1.steps=2"];
    let refused = || resume(&run, &more).err().map(|error| error.to_string()).unwrap_or_default();
    write_sums(&data, 41, |sum| sum.to_string());
    assert!(refused().contains("sums.jsonl") && refused().contains("41 rows, not 40"), "{}", refused());
    write_sums(&data, 40, |sum| (99 - sum).to_string());
    assert!(refused().contains("sums.jsonl") && refused().contains("--fork"), "{}", refused());
    write_sums(&data, 40, |sum| sum.to_string());
    assert_eq!(resume(&run, &more).unwrap().0.steps, 3);
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (outcome, _) = start(&config(&[]), &run);
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    fs::remove_dir_all(run.join("model")).unwrap();
    let (again, screen) = resume(&run, &[]).unwrap();
    assert!(screen.warnings[0].contains("is finished") && screen.steps.is_empty(), "{:?}", screen.warnings);
    assert_eq!((again.after, again.steps, again.folder), (outcome.after, 2, run.clone()));
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
    assert!(!run.join("model").exists(), "nothing was done");
    assert_eq!(resume(&run, &["phases.1.steps=2"]).unwrap().1.steps.len(), 1);
}

#[test]
fn a_fork_with_other_evaluation_settings_evaluates_before_its_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("parent");
    let (outcome, _) = start(&config(&["optimizer.learning_rate=1e-2"]), &parent);
    let fork = |name: &str, pairs: &[&str]| {
        let pairs: Vec<&str> = ["phases.1.steps=2"].iter().chain(pairs).copied().collect();
        let start = Start::Fork { from: parent.clone(), step: None };
        run(&config(&pairs), MODEL.as_ref(), &folder.path().join(name), &start).unwrap().0
    };
    assert_eq!(fork("same", &["objective.clip_high=0.3"]).before, outcome.before);
    let other = fork("other", &["evaluation.samples=3"]);
    assert_eq!((other.before.samples, other.before.problems), (3, 6));
    assert_ne!(other.before.avg_at_k, outcome.before.avg_at_k);
}

#[test]
fn each_validation_file_is_a_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    let paths: [PathBuf; 3] = ["train.jsonl", "few.jsonl", "many.jsonl"].map(|name| folder.path().join(name));
    let [train, few, many] = &paths;
    // Answers in solutions, found by their mark.
    write_sums(train, 30, |sum| format!("We add the numbers one by one and get it.\n#### {sum}"));
    write_sums(few, 2, |sum| sum.to_string());
    write_sums(many, 90, |_| "none".into());
    let validation = format!("data.validation=['{}', '{}']", few.display(), many.display());
    let run = folder.path().join("run");
    let (outcome, screen) = start(&with_data(train, &[&validation, "evaluation.problems=10"]), &run);
    assert!(screen.questions.contains("30 by ####"), "{}", screen.questions);
    let named: Vec<(&str, usize)> = outcome
        .after_by_benchmark
        .iter()
        .map(|result| (result.benchmark.as_str(), result.evaluation.problems))
        .collect();
    assert_eq!(named, [("few", 2), ("many", 8)]);
    let [few, many] = &outcome.before_by_benchmark[..] else { panic!("two benchmarks") };
    assert_eq!(many.evaluation.avg_at_k, 0.0);
    assert_eq!(outcome.before.avg_at_k, few.evaluation.avg_at_k / 2.0);
    let written: Value = common::json(&run.join("evaluation.json"));
    assert_eq!(written["before_by_benchmark"][1]["benchmark"], "many");
    assert_eq!(written["before"]["problems"], 10);
    let completions = fs::read_to_string(run.join("completions.jsonl")).unwrap();
    assert!(!completions.contains("####"), "the answers alone are graded by");
}

#[test]
fn a_model_is_saved_in_f32_if_rounding_would_undo_its_training() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("bf16");
    let loaded = load_folder(MODEL.as_ref());
    let options = SaveOptions { dtype: Some(SaveDtype::Bf16), ..SaveOptions::default() };
    save_checkpoint(&model, &loaded.decoder, &loaded.assets, options).unwrap();
    let trained = |name: &str, pairs: &[&str]| {
        let (outcome, screen) =
            run(&config(&[&["dtype=f32"], pairs].concat()), &model, &folder.path().join(name), &Start::New).unwrap();
        let stored = load_folder(&outcome.model).assets.stored_dtype("model.embed_tokens.weight").unwrap();
        (outcome.rounded_away, stored, screen.warnings.join("\n"))
    };
    let (share, stored, warning) = trained("small", &["optimizer.learning_rate=1e-6"]);
    assert!(share.unwrap() > 0.5, "{share:?}");
    assert!(stored == SaveDtype::F32 && warning.contains("save_dtype"), "{stored:?} {warning}");
    let (share, stored, warning) = trained("asked", &["optimizer.learning_rate=1e-6", "save_dtype=bf16"]);
    assert!(share.unwrap() > 0.5 && stored == SaveDtype::Bf16 && warning.contains("sets back"), "{stored:?} {warning}");
    // Without decay, which changes weights without a gradient by less than rounding does.
    let (share, stored, warning) = trained("large", &["optimizer.learning_rate=5e-2", "optimizer.weight_decay=0"]);
    assert!(share.unwrap() < 0.05, "{share:?}");
    assert!(stored == SaveDtype::Bf16 && warning.is_empty(), "{stored:?} {warning}");
}
