//! A run on a device whose memory gets short.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bupo::analysis::Boundary;
use bupo::eval::Evaluation;
use bupo::models::ModelFiles;
use bupo::rl::{Phase, Progress, RunHeader, Start, StepMetrics, TrainConfig, WarningKind, train};
use common::B;

/// What is free at each time it is asked, the last for ever after.
struct Device {
    free: Vec<Option<f64>>,
    steps: Vec<StepMetrics>,
}

impl Progress for Device {
    fn ready(&mut self, _: &RunHeader<'_>) {}
    fn evaluating(&mut self, _: &str) {}
    fn evaluated(&mut self, _: &str, _: &Evaluation) {}
    fn boundary(&mut self, _: &Boundary) {}
    fn skipped_damaged(&mut self, _: &[bupo::rl::Damaged]) {}
    fn phase(&mut self, _: usize, _: &Phase, _: usize) {}
    fn warning(&mut self, _: &str) {}

    fn step(&mut self, metrics: &StepMetrics) {
        self.steps.push(metrics.clone());
    }

    fn memory_free(&mut self) -> Option<f64> {
        if self.free.len() > 1 { self.free.remove(0) } else { self.free[0] }
    }
}

fn run(folder: &Path, free: &[Option<f64>]) -> (Vec<StepMetrics>, TrainConfig) {
    let pairs = [
        "phases.0.steps=1",
        "phases.1.steps=2",
        "rollout.prompts=4",
        "rollout.group_size=4",
        "rollout.batch=64",
        "update.mini_batch_prompts=4",
        "update.max_tokens_per_batch=100000",
        "data.max_prompt_tokens=64",
        "evaluation.problems=2",
        "evaluation.samples=1",
        "probe.every=0",
        "optimizer.learning_rate=1e-6",
    ];
    let config = TrainConfig::load(None, &pairs.map(String::from)).unwrap();
    let files = ModelFiles::folder("models/arithmetic-1m".as_ref()).unwrap();
    let mut device = Device { free: free.to_vec(), steps: Vec::new() };
    let stop = AtomicBool::new(false);
    train::<B>(&config, &files, folder, &Start::New, &stop, &Default::default(), &mut device).unwrap();
    (device.steps, TrainConfig::load(Some(&folder.join("config.toml")), &[]).unwrap())
}

#[test]
fn a_run_that_is_short_of_memory_runs_less_at_once_and_is_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let (plenty, settings) = run(&folder.path().join("plenty"), &[Some(0.5)]);
    assert_eq!((settings.rollout.batch, settings.update.max_tokens_per_batch), (64, 100_000));
    assert!(plenty.iter().all(|step| step.warnings.is_empty()));
    let (unknown, settings_unknown) = run(&folder.path().join("unknown"), &[None]);
    assert_eq!((unknown.len(), settings_unknown), (3, settings));

    // Short after the first step's rollout and before its update, then after the update, and then never again.
    let free = [Some(0.5), Some(0.01), Some(0.01), Some(0.01), Some(0.01), Some(0.5)];
    let (short, settings) = run(&folder.path().join("short"), &free);
    assert_eq!(settings.rollout.batch, 8, "half of the 16 responses there are");
    // 16 sequences of 96 tokens at most.
    assert_eq!((settings.update.max_tokens_per_batch, settings.update.recompute), (768, false));
    let said = short[0].warnings.iter().map(|warning| (warning.kind, warning.text.as_str())).collect::<Vec<_>>();
    assert!(
        matches!(
            said[..],
            [(WarningKind::Memory, rollout), (WarningKind::Memory, update)]
                if rollout.ends_with("rollout.batch 64 -> 8") && update.ends_with("max_tokens_per_batch 100000 -> 768")
        ),
        "{said:?}"
    );
    assert!(short[1..].iter().all(|step| step.warnings.is_empty()));
    for (short, plenty) in short.iter().zip(&plenty) {
        assert_eq!(
            (short.rollout.reward, short.rollout.response_length),
            (plenty.rollout.reward, plenty.rollout.response_length)
        );
        assert!(
            (short.update.loss.unwrap() - plenty.update.loss.unwrap()).abs() < 1e-5
                && (short.update.grad_norm.unwrap() - plenty.update.grad_norm.unwrap()).abs() < 1e-4
        );
    }

    // Never enough: it is cut to the least there is, and goes on.
    let (_, settings) = run(&folder.path().join("least"), &[Some(0.0)]);
    assert_eq!(settings.rollout.batch, 2);
    assert!(settings.update.recompute && settings.update.max_tokens_per_batch == 96, "{:?}", settings.update);
}
