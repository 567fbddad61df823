//! Training by several processes, played by threads: the tokens, weights and files of one process.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;
#[allow(dead_code)] // Shared with the tests of the program.
#[path = "program/contract_server.rs"]
mod contract_server;
#[path = "processes/critic.rs"]
mod critic;
#[path = "processes/optimizer.rs"]
mod optimizer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bupo::analysis::Boundary;
use bupo::eval::Evaluation;
use bupo::models::ModelFiles;
use bupo::rl::{
    Outcome, Phase, Progress, RlError, RunHeader, Start, StepMetrics, TrainConfig, resumed_config, train_among,
};
use bupo_collective::{Processes, threads};
use common::{B, json, max_difference, tensors};
use contract_server::{ContractServer, Fault};
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
        // AdamW divides a gradient by its own size, so one that rounds to either side of zero would move its weight by the
        // whole learning rate. This is far above the rounding of sums in another order, and below most gradients.
        "optimizer.epsilon=1e-6",
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

/// Thresholds, draws, a std and a coefficient that are of the whole batch.
#[test]
fn what_is_of_the_whole_batch_is_that_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let losses: [&[&str]; 2] = [
        &["objective.covariance={mode='clip',share=0.1,low=-9.0,high=9.0}", "objective.top_entropy_share=0.5"],
        &["objective.covariance={mode='kl',share=0.1}", "objective.scale_rewards=batch", "objective.surrogate=cispo"],
    ];
    for (number, loss) in losses.into_iter().enumerate() {
        let pairs = [
            "update.epochs=2",
            "objective.reward_kl.coefficient=0.01",
            "objective.entropy_target={entropy=9.0,step=0.01,max=0.1}",
            "optimizer.epsilon=1e-3",
        ];
        let config = config(&[loss, &pairs].concat());
        let (alone, run) = (folder.path().join(format!("1-{number}")), folder.path().join(format!("3-{number}")));
        let expected = &train(1, &config, &alone, &Start::New)[0];
        let of_each = train(3, &config, &run, &Start::New);
        assert_same_weights(&run.join("model"), &alone.join("model"), TOLERANCE);
        for steps in &of_each {
            for (step, expected) in steps.iter().zip(expected) {
                let chosen = |step: &StepMetrics| (step.update.left_out_ratio, step.update.penalised_ratio);
                assert_eq!(chosen(step), chosen(expected));
                assert_eq!(step.update.entropy_coefficient, expected.update.entropy_coefficient);
            }
            let chosen = |step: &StepMetrics| {
                [step.update.left_out_ratio, step.update.penalised_ratio].into_iter().flatten().sum::<f64>()
            };
            assert!(steps.iter().all(|step| chosen(step) > 0.02), "{steps:?}");
            assert_eq!(steps[1].update.entropy_coefficient, Some(0.01));
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
        // The sums of gradients differ in their last bits, by which a few moments get a neighbouring code.
        let [one, other] = [&run, &alone].map(|run| by_name(&run.join("model/model.safetensors")));
        for ((name, _, a), (_, _, b)) in one.iter().zip(&other) {
            let mean = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32;
            println!("{name}: {mean}");
            assert!(mean <= TOLERANCE, "{name}: {mean}");
        }
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

/// Settings of a run whose responses a server samples.
fn served(server: &ContractServer, more: &[&str]) -> TrainConfig {
    let urls = format!("rollout.urls=['{}']", server.url);
    let pairs = ["rollout.engine=vllm", urls.as_str(), "rollout.timeout=5", "checkpoint.every=0"];
    config(&pairs.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn processes_share_a_server_to_which_the_first_hands_weights_over() {
    let folder = tempfile::tempdir().unwrap();
    for more in [&[][..], &["rollout.ahead=1", "phases.1.steps=2"]] {
        let by = |size: usize| {
            let server = ContractServer::start(Path::new(MODEL));
            let run = folder.path().join(format!("{size}-{}", more.len()));
            train(size, &served(&server, more), &run, &Start::New);
            (run, server.folders(), server.requests())
        };
        let (alone, folders, requests) = by(1);
        for size in [2, 3] {
            let (run, folders_of_these, requests_of_these) = by(size);
            assert_eq!(folders_of_these, folders, "one process hands weights over");
            assert_eq!(requests_of_these, requests, "each response is sampled once");
            for step in [1, 2] {
                let sampled = |run: &Path| lines(run, "rollouts.jsonl", step);
                assert_eq!(sampled(&run), sampled(&alone), "{size} processes, step {step}");
            }
            assert_same_weights(&run.join("model"), &alone.join("model"), TOLERANCE);
        }
    }
}

#[test]
fn the_failure_of_a_server_ends_all_processes_after_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let server = ContractServer::start(Path::new(MODEL));
    let fails = |run: &Path, config: &TrainConfig, start: &Start| {
        for (rank, (trained, _)) in train_by(2, config, run, start, embedded).into_iter().enumerate() {
            let error = trained.map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with("process 0 of 2: ") && error.contains(&server.url), "process {rank}: {error}");
        }
    };
    server.fail_always(Some(Fault::Empty));
    let run = folder.path().join("run");
    fails(&run, &served(&server, &[]), &Start::New);
    // A server that fails in the second step loses none before it.
    server.fail_always(None);
    let run = folder.path().join("second");
    train(2, &served(&server, &["phases.1.steps=0"]), &run, &Start::New);
    server.fail_always(Some(Fault::Empty));
    fails(&run, &resumed_config(&run, &["phases.1.steps=1".to_string()]).unwrap(), &Start::Resume);
    server.fail_always(None);
    let more = resumed_config(&run, &["phases.1.steps=1".to_string()]).unwrap();
    let steps = train(2, &more, &run, &Start::Resume);
    assert!(steps.iter().all(|steps| steps.iter().map(|step| step.step).eq([2])), "{steps:?}");
}
