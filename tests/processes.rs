//! Training by several processes, played by threads: the tokens, weights and files of one process.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bupo::analysis::Boundary;
use bupo::eval::Evaluation;
use bupo::models::decoder::{Gradients, named_tensors, parameter_lengths};
use bupo::models::{ModelFiles, load_model};
use bupo::rl::{
    AdamWSettings, DecoderOptimizer, MomentDtype, Outcome, Phase, Progress, RlError, RunHeader, Start, StepMetrics,
    TrainConfig, resumed_config, train_among,
};
use bupo_collective::{Processes, threads};
use burn::module::ParamId;
use burn::tensor::{DType, Tensor, TensorData};
use common::{B, json, max_difference, tensors};
use serde_json::Value;

const MODEL: &str = "models/arithmetic-1m";
/// The largest difference of weights from those of one process.
const TOLERANCE: f32 = 1e-5;

#[derive(Default)]
struct Steps(Vec<StepMetrics>);

impl Progress for Steps {
    fn ready(&mut self, _: &RunHeader<'_>) {}
    fn evaluating(&mut self, _: &str) {}
    fn evaluated(&mut self, _: &str, _: &Evaluation) {}
    fn boundary(&mut self, _: &Boundary) {}
    fn skipped_damaged(&mut self, _: &[bupo::rl::Damaged]) {}
    fn phase(&mut self, _: usize, _: &Phase, _: usize) {}
    fn step(&mut self, metrics: &StepMetrics) {
        self.0.push(metrics.clone());
    }
    fn warning(&mut self, _: &str) {}
}

/// A step on layer 2 and one on the full policy. Neither 8 prompts nor the 8 responses of an update can be shared out evenly
/// among 3 processes.
fn config(pairs: &[&str]) -> TrainConfig {
    let small = [
        "phases.0.site=layer:2",
        "phases.0.steps=1",
        "phases.1.steps=1",
        "rollout.prompts=8",
        "rollout.group_size=2",
        "rollout.max_new_tokens=16",
        "rollout.keep=all",
        "update.mini_batch_prompts=4",
        "evaluation.problems=4",
        "evaluation.samples=1",
        "probe.every=1",
        "checkpoint.every=1",
        "checkpoint.keep_last=9",
        "save_dtype=f32",
    ];
    let pairs: Vec<String> = small.iter().chain(pairs).map(ToString::to_string).collect();
    TrainConfig::load(None, &pairs).unwrap()
}

/// Trains by `size` processes; what each of them returns.
fn train_by(
    size: usize,
    config: &TrainConfig,
    folder: &Path,
    start: &Start,
    model: impl Fn(usize) -> PathBuf + Sync,
) -> Vec<(Result<Outcome, RlError>, Vec<StepMetrics>)> {
    let model = &model;
    std::thread::scope(|scope| {
        let running: Vec<_> = threads(size)
            .into_iter()
            .map(|one| {
                scope.spawn(move || {
                    let processes = Processes::new(Box::new(one), |_| {});
                    let files = ModelFiles::folder(&model(processes.rank())).unwrap();
                    let (mut steps, stop, device) = (Steps::default(), AtomicBool::new(false), Default::default());
                    let trained =
                        train_among::<B>(config, &files, folder, start, &stop, &device, &mut steps, &processes);
                    (trained, steps.0)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn embedded(_: usize) -> PathBuf {
    MODEL.into()
}

/// The metrics of every step, in each process.
fn train(size: usize, config: &TrainConfig, folder: &Path, start: &Start) -> Vec<Vec<StepMetrics>> {
    train_by(size, config, folder, start, embedded)
        .into_iter()
        .map(|(trained, steps)| {
            trained.unwrap();
            steps
        })
        .collect()
}

fn lines(folder: &Path, log: &str, step: usize) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(log)).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["step"] == step).collect()
}

fn by_name(file: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut all = tensors(file);
    all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    all
}

fn assert_same_weights(one: &Path, other: &Path, tolerance: f32) {
    let [one, other] = [one, other].map(|folder| by_name(&folder.join("model.safetensors")));
    assert_eq!(one.len(), other.len());
    for ((name, shape, a), (other_name, other_shape, b)) in one.iter().zip(&other) {
        assert_eq!((name, shape), (other_name, other_shape));
        let difference = max_difference(a, b);
        assert!(difference <= tolerance, "{name}: {difference}");
    }
}

#[test]
fn the_update_is_that_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("1");
    let expected = &train(1, &config(&[]), &alone, &Start::New)[0];
    for (size, shard) in [(2, "none"), (3, "none"), (2, "optimizer"), (3, "optimizer")] {
        let run = folder.path().join(format!("{size}-{shard}"));
        let of_each = train(size, &config(&[&format!("distributed.shard={shard}")]), &run, &Start::New);
        // The tokens of the first step are the same, and the evaluation's before it.
        assert_eq!(lines(&run, "rollouts.jsonl", 1), lines(&alone, "rollouts.jsonl", 1), "{size}");
        assert_eq!(lines(&run, "completions.jsonl", 0), lines(&alone, "completions.jsonl", 0), "{size}");
        for step in [1, 2] {
            let weights = |run: &Path| run.join(format!("checkpoints/step-{step:06}/model"));
            if step < 2 {
                assert_same_weights(&weights(&run), &weights(&alone), TOLERANCE);
            }
        }
        assert_same_weights(&run.join("model"), &alone.join("model"), TOLERANCE);
        for steps in &of_each {
            // All processes decide by the same numbers.
            assert_eq!(steps.len(), 2);
            for (step, first) in steps.iter().zip(&of_each[0]) {
                assert_eq!((&step.update, &step.policy, &step.rollout), (&first.update, &first.policy, &first.rollout));
                assert_eq!(step.groups, first.groups);
            }
        }
        for (step, expected) in of_each[0].iter().zip(expected) {
            let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-4 * b.abs().max(1e-2), "{a} {b}"),
                (a, b) => assert_eq!(a, b),
            };
            near(step.update.loss, expected.update.loss);
            near(step.update.grad_norm, expected.update.grad_norm);
            near(step.update.entropy, expected.update.entropy);
            near(step.policy.drift, expected.policy.drift);
        }
    }
}

/// The weights after three steps by gradients that process 0 has.
fn stepped(size: usize, is_sharded: bool, moments: MomentDtype, weights: DType) -> Vec<Vec<f32>> {
    let settings = AdamWSettings { learning_rate: 1e-3, max_grad_norm: 1e9, moments, ..AdamWSettings::default() };
    std::thread::scope(|scope| {
        let running: Vec<_> = threads(size)
            .into_iter()
            .map(|one| {
                scope.spawn(move || {
                    let processes = Processes::new(Box::new(one), |_| {});
                    let files = ModelFiles::folder(&PathBuf::from(MODEL)).unwrap();
                    let mut decoder =
                        load_model::<B>(&files, &Default::default()).unwrap().decoder.with_layer_weights(weights);
                    let mut optimizer = DecoderOptimizer::new(settings).with_seed(5);
                    if is_sharded {
                        optimizer = optimizer.sharded();
                    }
                    for step in 0..3 {
                        let mut gradients = Gradients::new();
                        for (id, length) in parameter_lengths(&decoder) {
                            let number = |i: usize| ((i + 7 * step) as f32 * 0.7 + id as f32).sin() * 1e-3;
                            let data = TensorData::new((0..length).map(number).collect::<Vec<f32>>(), [length]);
                            if processes.is_first() {
                                gradients.add(ParamId::from(id), Tensor::<B, 1>::from_data(data, &Default::default()));
                            }
                        }
                        optimizer.step(&mut decoder, gradients, &processes).unwrap();
                    }
                    named_tensors(&decoder).iter().map(|tensor| tensor.data.iter::<f32>().collect()).collect()
                })
            })
            .collect();
        let of_each: Vec<Vec<Vec<f32>>> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(of_each.iter().all(|weights| *weights == of_each[0]), "{size} processes have the same weights");
        of_each.into_iter().next().unwrap()
    })
}

#[test]
fn moments_and_weights_of_any_dtype_have_the_same_bits_for_any_number_of_processes() {
    for (moments, weights) in [
        (MomentDtype::F32, DType::F32),
        (MomentDtype::F32, DType::BF16),
        (MomentDtype::Bf16, DType::F32),
        (MomentDtype::EightBit, DType::BF16),
    ] {
        let alone = stepped(1, false, moments, weights);
        for (size, is_sharded) in [(2, false), (2, true), (3, true)] {
            assert!(stepped(size, is_sharded, moments, weights) == alone, "{moments} {weights:?} {size} {is_sharded}");
        }
    }
}

#[test]
fn runs_with_moments_in_8_bits_are_continued_by_another_number_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["optimizer.moments=8bit", "distributed.shard=optimizer"];
    let alone = folder.path().join("1");
    train(1, &config(&[&settings[..], &["phases.1.steps=2"]].concat()), &alone, &Start::New);
    for (first, second) in [(3, 2), (1, 3), (2, 1)] {
        let run = folder.path().join(format!("{first}-{second}"));
        train(first, &config(&settings), &run, &Start::New);
        train(second, &resumed_config(&run, &["phases.1.steps=2".to_string()]).unwrap(), &run, &Start::Resume);
        let moments = |run: &Path| fs::read(run.join("checkpoints/step-000003/optimizer.safetensors")).unwrap().len();
        assert_eq!(moments(&run), moments(&alone), "moments are whole, whoever wrote them");
        assert_same_weights(&run.join("model"), &alone.join("model"), 5.0 * TOLERANCE);
    }
}

#[test]
fn a_process_without_responses_takes_part() {
    let folder = tempfile::tempdir().unwrap();
    // Two responses per update for three processes.
    let config = config(&["update.mini_batch_prompts=1", "rollout.prompts=2", "reward.truncated=mask"]);
    let (alone, run) = (folder.path().join("1"), folder.path().join("3"));
    train(1, &config, &alone, &Start::New);
    train(3, &config, &run, &Start::New);
    assert_same_weights(&run.join("model"), &alone.join("model"), TOLERANCE);
}

#[test]
fn another_number_of_processes_continues_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("1");
    train(1, &config(&["phases.1.steps=3"]), &alone, &Start::New);
    for (first, second, shard) in [(3, 2, "optimizer"), (1, 3, "optimizer"), (2, 1, "none")] {
        let run = folder.path().join(format!("{first}-{second}"));
        train(first, &config(&[&format!("distributed.shard={shard}")]), &run, &Start::New);
        let more = resumed_config(&run, &["phases.1.steps=3".to_string()]).unwrap();
        let steps = train(second, &more, &run, &Start::Resume);
        assert!(steps.iter().all(|steps| steps.iter().map(|step| step.step).eq([3, 4])), "{steps:?}");
        assert_same_weights(&run.join("model"), &alone.join("model"), TOLERANCE);
        // Moments are whole in the checkpoint, whoever wrote it.
        let moments = |run: &Path| by_name(&run.join("checkpoints/step-000004/optimizer.safetensors"));
        for ((name, shape, a), (_, other_shape, b)) in moments(&run).iter().zip(&moments(&alone)) {
            assert_eq!(shape, other_shape, "{name}");
            assert!(max_difference(a, b) < TOLERANCE, "{name}");
        }
        let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count();
        assert_eq!(lines, 4, "one process writes");
    }
}

#[test]
fn another_model_in_one_process_is_refused_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("model");
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(MODEL).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    let settings = fs::read_to_string(other.join("config.json")).unwrap();
    fs::write(other.join("config.json"), settings + "\n\n").unwrap();
    let run = folder.path().join("run");
    let model = |rank| if rank == 1 { other.clone() } else { PathBuf::from(MODEL) };
    for (trained, _) in train_by(2, &config(&[]), &run, &Start::New, model) {
        let error = trained.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("process 1 of 2 has another model file config.json"), "{error}");
    }
    assert!(!run.exists());
}

#[test]
fn the_phase_guard_decides_alike_in_all_processes() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // A learning rate that ruins the policy at once, so that the guard goes back to the checkpoint before the phase.
    let config = config(&[
        "phases.0.site=layer:3",
        "phases.0.steps=60",
        "rollout.group_size=8",
        "rollout.max_new_tokens=48",
        "optimizer.learning_rate=1e-2",
        "probe.every=0",
        "checkpoint.every=10",
        "distributed.shard=optimizer",
        "guard.phase_guard=rollback",
    ]);
    let of_each = train(2, &config, &run, &Start::New);
    let guards = |steps: &[StepMetrics]| steps.iter().map(|step| step.guard.is_some()).collect::<Vec<_>>();
    assert!(guards(&of_each[0]).contains(&true), "the guard has acted");
    assert_eq!(guards(&of_each[0]), guards(&of_each[1]));
    let state: Value = json(&run.join("state.json"));
    assert_eq!(state["status"], "finished", "{state}");
}
