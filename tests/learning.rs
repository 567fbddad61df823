//! The objective and whole updates against PyTorch, and against themselves.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{Norm, PolicySite};
use bupo::models::decoder::named_tensors;
use bupo::rl::{
    AdamWSettings, Aggregation, BatchSize, DecoderOptimizer, LossSpec, Objective, PolicySpec, ResponseValues,
    UpdateStats, group_advantages, read_rollouts, replay,
};
use common::{B, fixture, json, load, max_difference, tensors};
use serde::Deserialize;

#[derive(Deserialize)]
struct ObjectiveReference {
    cases: Vec<ObjectiveCase>,
    group_advantages: Vec<GroupCase>,
}

#[derive(Deserialize)]
struct ObjectiveCase {
    name: String,
    eps_low: f64,
    eps_high: f64,
    dual_clip: Option<f64>,
    aggregation: Aggregation,
    mask: Vec<Vec<f64>>,
    old_log_probs: Vec<Vec<f32>>,
    log_probs: Vec<Vec<f32>>,
    advantages: Vec<f64>,
    loss: f64,
    grad: Vec<Vec<f64>>,
    clip_fraction: f64,
    dual_clip_fraction: f64,
}

#[derive(Deserialize)]
struct GroupCase {
    rewards: Vec<f64>,
    advantages: Vec<f64>,
}

#[derive(Deserialize)]
struct ReplayReference {
    lr: f64,
    updates: Vec<ReplayUpdate>,
}

#[derive(Deserialize)]
struct ReplayUpdate {
    loss: f64,
    grad_norm: f64,
    clip_fraction: f64,
    dual_clip_fraction: f64,
}

#[test]
fn the_objective_and_its_gradient_are_those_of_pytorch() {
    let reference: ObjectiveReference = json(&fixture("objective.json"));
    assert!(reference.cases.len() > 50);
    for case in reference.cases {
        let objective = Objective {
            clip_low: case.eps_low,
            clip_high: case.eps_high,
            dual_clip: case.dual_clip.unwrap_or(0.0),
            aggregation: case.aggregation,
            ..Objective::default()
        };
        let lengths: Vec<usize> = case.mask.iter().map(|row| row.iter().sum::<f64>() as usize).collect();
        let size = BatchSize::of(lengths.iter().copied(), None);
        let (mut loss, mut clipped, mut dual_clipped) = (0.0, 0, 0);
        for (row, length) in lengths.iter().enumerate() {
            let values = ResponseValues {
                log_probs: &case.log_probs[row][..*length],
                old_log_probs: &case.old_log_probs[row][..*length],
                ref_log_probs: None,
                entropy: &vec![0.0; *length],
                advantage: case.advantages[row],
                token_advantages: None,
                weights: None,
                penalised: None,
            };
            let share = objective.response(&values, &size);
            loss += share.loss;
            clipped += share.clipped();
            dual_clipped += share.dual_clipped;
            for (ours, expected) in share.d_log_probs.iter().zip(&case.grad[row]) {
                assert!(close(*ours, *expected, 1e-5), "{}: {ours} for {expected}", case.name);
            }
        }
        assert!(close(loss, case.loss, 1e-5), "{}: loss {loss} for {}", case.name, case.loss);
        let tokens = size.tokens().max(1) as f64;
        assert!(close(clipped as f64 / tokens, case.clip_fraction, 1e-9), "{}", case.name);
        assert!(close(dual_clipped as f64 / tokens, case.dual_clip_fraction, 1e-9), "{}", case.name);
    }
}

#[test]
fn advantages_are_those_of_pytorch() {
    let reference: ObjectiveReference = json(&fixture("objective.json"));
    for case in reference.group_advantages {
        for (ours, expected) in group_advantages(&case.rewards).iter().zip(&case.advantages) {
            assert!(close(*ours, *expected, 1e-9), "{:?}: {ours} for {expected}", case.rewards);
        }
    }
}

#[test]
fn two_updates_are_those_of_pytorch_parameter_by_parameter() {
    for name in ["qwen3-tied", "qwen2-untied-sharded-bf16"] {
        let before = parameters(&load(name).decoder);
        for (site, file) in [("full", "replay.full"), ("layer:2", "replay.layer2")] {
            let reference: ReplayReference = json(&fixture(name).join(format!("{file}.json")));
            let (stats, after) = run(name, site, reference.lr, reference.updates.len(), 4096);
            compare(name, &reference, &stats, 1e-4);
            let expected = tensors(&fixture(name).join(format!("{file}.safetensors")));
            assert_eq!(expected.len(), after.len());
            let mut untouched = 0;
            for (key, _, values) in &expected {
                if values == &before[key] {
                    assert_eq!(after[key], before[key], "{name} {site}: {key} has no gradient and is left alone");
                    untouched += 1;
                } else {
                    let difference = max_difference(&after[key], values);
                    assert!(difference <= 1e-4, "{name} {site} {key}: {difference}");
                    // The few largest are near-zero gradients whose rounding AdamW makes a whole step of.
                    let mean: f32 = after[key].iter().zip(values).map(|(a, b)| (a - b).abs()).sum();
                    assert!(mean / values.len() as f32 <= 1e-6, "{name} {site} {key}: mean {mean}");
                }
            }
            assert_eq!(untouched > 0, site != "full", "{name} {site}: {untouched}");
        }
    }
}

#[test]
fn clipped_updates_are_those_of_pytorch() {
    let reference: ReplayReference = json(&fixture("qwen3-tied").join("replay.full-large-lr.json"));
    let (stats, _) = run("qwen3-tied", "full", reference.lr, reference.updates.len(), 4096);
    compare("qwen3-tied", &reference, &stats, 1e-3);
    assert!(stats[1].clip_ratio > 0.0 && stats[1].dual_clip_ratio > 0.0);
}

#[test]
fn the_first_ratio_is_exactly_one() {
    for site in ["full", "layer:2", "attn:2", "ffn:1"] {
        let (stats, _) = run("qwen3-tied", site, 1e-3, 2, 60);
        assert_eq!(stats[0].extreme_ratio, 1.0, "{site}");
        assert_ne!(stats[1].extreme_ratio, 1.0, "{site}");
    }
}

#[test]
fn the_update_does_not_depend_on_the_tokens_run_at_once() {
    // With so large an epsilon the step is linear in the gradient, so that no rounding is blown up to a whole step.
    let settings = AdamWSettings { learning_rate: 1.0, epsilon: 1.0, max_grad_norm: 1e-2, ..AdamWSettings::default() };
    for site in ["full", "layer:2"] {
        let (whole, expected) = run_with("qwen3-tied", site, settings, 2, 1000, false);
        for max_tokens in [1, 30, 70] {
            let (stats, after) = run_with("qwen3-tied", site, settings, 2, max_tokens, false);
            for (a, b) in stats.iter().zip(&whole) {
                assert!(close(a.loss, b.loss, 1e-5) && close(a.grad_norm, b.grad_norm, 1e-5), "{site} {max_tokens}");
            }
            for (key, values) in &expected {
                assert!(max_difference(&after[key], values) < 1e-6, "{site} {max_tokens} {key}");
            }
        }
    }
}

#[test]
fn layers_run_again_are_the_layers_remembered() {
    let settings = AdamWSettings { learning_rate: 1e-3, ..AdamWSettings::default() };
    for site in ["full", "layer:2", "attn:2", "ffn:1"] {
        let [remembered, again] =
            [false, true].map(|recompute| run_with("qwen3-tied", site, settings, 2, 60, recompute));
        assert_eq!(remembered, again, "{site}");
    }
}

/// Two runs of the same update give the same bits.
#[test]
fn updates_are_deterministic() {
    assert_eq!(run("qwen3-tied", "full", 1e-3, 2, 60).1, run("qwen3-tied", "full", 1e-3, 2, 60).1);
}

fn run(
    name: &str,
    site: &str,
    learning_rate: f64,
    updates: usize,
    max_tokens_per_batch: usize,
) -> (Vec<UpdateStats>, BTreeMap<String, Vec<f32>>) {
    let settings = AdamWSettings { learning_rate, ..AdamWSettings::default() };
    run_with(name, site, settings, updates, max_tokens_per_batch, false)
}

fn run_with(
    name: &str,
    site: &str,
    settings: AdamWSettings,
    updates: usize,
    max_tokens_per_batch: usize,
    recompute: bool,
) -> (Vec<UpdateStats>, BTreeMap<String, Vec<f32>>) {
    let mut decoder = load(name).decoder;
    let rollouts = read_rollouts(&fixture(name).join("rollouts.jsonl"), decoder.vocab_size()).unwrap();
    let mut optimizer = DecoderOptimizer::<B>::new(settings);
    let policy = PolicySpec { site: site.parse::<PolicySite>().unwrap(), norm: Norm::None, temperature: 1.0 };
    let loss = LossSpec {
        policy,
        objective: Objective::default(),
        norm_length: None,
        max_tokens_per_batch,
        recompute,
        correction: None,
        terms: Vec::new(),
    };
    let mut stats = Vec::new();
    replay(&mut decoder, &mut optimizer, &rollouts, &loss, updates, |_, update| {
        stats.push(*update);
        Ok(())
    })
    .unwrap();
    (stats, parameters(&decoder))
}

fn parameters(decoder: &bupo::models::Decoder<common::B>) -> BTreeMap<String, Vec<f32>> {
    named_tensors(decoder).into_iter().map(|tensor| (tensor.name, tensor.data.iter::<f32>().collect())).collect()
}

fn compare(name: &str, reference: &ReplayReference, stats: &[UpdateStats], tolerance: f64) {
    assert_eq!(stats.len(), reference.updates.len());
    for (ours, expected) in stats.iter().zip(&reference.updates) {
        assert!(close(ours.loss, expected.loss, tolerance), "{name}: loss {} for {}", ours.loss, expected.loss);
        let norms = (ours.grad_norm, expected.grad_norm);
        assert!(close(norms.0, norms.1, tolerance), "{name}: grad norm {} for {}", norms.0, norms.1);
        assert!(close(ours.clip_ratio, expected.clip_fraction, 1e-9), "{name}: clip ratio");
        assert!(close(ours.dual_clip_ratio, expected.dual_clip_fraction, 1e-9), "{name}: dual clip ratio");
    }
}

/// Within a relative tolerance, or an absolute one of the same size below 1.
fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs().max(1e-2)
}
