//! Advantages, losses and reward shaping against PyTorch, case by case.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{InternalPolicy, TokenDerivatives};
use bupo::rl::{
    Advantage, Aggregation, BatchSize, Correction, CorrectionMode, KlEstimator, Objective, Ratio, RatioStats,
    ResponseValues, RewardedLength, has_reward_variance, overlong_penalty,
};
use burn::tensor::{Tensor, TensorData};
use common::{B, fixture, json};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    advantages: Vec<AdvantageCase>,
    batches: BTreeMap<String, Batch>,
    losses: Vec<LossCase>,
    logits: Vec<LogitsCase>,
    overlong: Vec<OverlongCase>,
    dynamic_sampling: DynamicSampling,
}

#[derive(Deserialize)]
struct AdvantageCase {
    name: String,
    groups: Vec<GroupCase>,
    #[serde(flatten)]
    expected: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct GroupCase {
    rewards: Vec<f64>,
    lengths: Vec<usize>,
}

#[derive(Deserialize)]
struct Batch {
    lengths: Vec<usize>,
    advantages: Vec<f64>,
    log_probs: Vec<Vec<f32>>,
    old_log_probs: Vec<Vec<f32>>,
    ref_log_probs: Vec<Vec<f32>>,
    entropies: Vec<Vec<f32>>,
}

#[derive(Debug, Deserialize)]
struct LossCase {
    batch: String,
    ratio: Ratio,
    clip_low: f64,
    clip_high: f64,
    dual_clip: Option<f64>,
    aggregation: Aggregation,
    norm_length: Option<usize>,
    kl: Option<KlEstimator>,
    beta: f64,
    entropy_coef: f64,
    loss: f64,
    kl_loss: Option<f64>,
    d_log_probs: Vec<Vec<f64>>,
    d_entropies: Option<Vec<Vec<f64>>>,
    clip_fraction: f64,
    dual_clip_fraction: f64,
}

#[derive(Deserialize)]
struct LogitsCase {
    name: String,
    temperature: f64,
    tokens: Vec<u32>,
    hidden: Vec<Vec<f32>>,
    unembedding: Vec<Vec<f32>>,
    a: Vec<f32>,
    b: Vec<f32>,
    log_probs: Vec<f64>,
    entropies: Vec<f64>,
    d_hidden: Vec<Vec<f64>>,
    d_unembedding: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct OverlongCase {
    limit: usize,
    buffer: usize,
    factor: f64,
    lengths: Vec<usize>,
    penalties: Vec<f64>,
}

#[derive(Deserialize)]
struct DynamicSampling {
    groups: Vec<DynamicGroup>,
}

#[derive(Deserialize)]
struct DynamicGroup {
    rewards: Vec<f64>,
    kept: bool,
}

fn reference() -> Reference {
    json(&fixture("algorithms.json"))
}

#[test]
fn advantages_are_those_of_pytorch() {
    let estimators = [
        ("grpo", Advantage::Grpo),
        ("dr-grpo", Advantage::DrGrpo),
        ("rloo", Advantage::Rloo),
        ("reinforce++", Advantage::ReinforcePlusPlus),
        ("reinforce++-baseline", Advantage::ReinforcePlusPlusBaseline),
    ];
    for case in reference().advantages {
        let scored = |group: &GroupCase| -> Vec<RewardedLength> {
            group
                .rewards
                .iter()
                .zip(&group.lengths)
                .map(|(&reward, &tokens)| RewardedLength { reward, tokens })
                .collect()
        };
        let groups: Vec<Vec<RewardedLength>> = case.groups.iter().map(scored).collect();
        for (name, estimator) in estimators {
            let expected: Vec<Vec<f64>> = serde_json::from_value(case.expected[name].clone()).unwrap();
            let ours = estimator.of(&groups);
            assert_eq!(ours.len(), expected.len());
            for (ours, expected) in ours.iter().flatten().zip(expected.iter().flatten()) {
                assert!(close(*ours, *expected, 1e-9), "{} {name}: {ours} for {expected}", case.name);
            }
        }
    }
}

#[test]
fn every_loss_and_its_gradient_are_those_of_pytorch() {
    let reference = reference();
    assert!(reference.losses.len() >= 70);
    for case in &reference.losses {
        check_loss(case, &reference.batches[&case.batch]);
    }
}

fn check_loss(case: &LossCase, batch: &Batch) {
    let objective = Objective {
        advantage: Advantage::Grpo,
        ratio: case.ratio,
        clip_low: case.clip_low,
        clip_high: case.clip_high,
        dual_clip: case.dual_clip.unwrap_or(0.0),
        aggregation: case.aggregation,
        kl_coefficient: if case.kl.is_some() { case.beta } else { 0.0 },
        kl_estimator: case.kl.unwrap_or_default(),
        entropy_coefficient: case.entropy_coef,
        ..Objective::default()
    };
    let size = BatchSize::of(batch.lengths.iter().copied(), case.norm_length);
    let (mut loss, mut ref_kl, mut clipped, mut dual_clipped) = (0.0, 0.0, 0, 0);
    for row in 0..batch.lengths.len() {
        let values = ResponseValues {
            log_probs: &batch.log_probs[row],
            old_log_probs: &batch.old_log_probs[row],
            ref_log_probs: case.kl.map(|_| batch.ref_log_probs[row].as_slice()),
            entropy: &batch.entropies[row],
            advantage: batch.advantages[row],
            token_advantages: None,
            weights: None,
            penalised: None,
        };
        let share = objective.response(&values, &size);
        loss += share.loss;
        ref_kl += share.ref_kl_sum;
        clipped += share.clipped();
        dual_clipped += share.dual_clipped;
        for (ours, expected) in share.d_log_probs.iter().zip(&case.d_log_probs[row]) {
            assert!(close(*ours, *expected, 1e-9), "{case:?}: {ours} for {expected}");
        }
        for expected in case.d_entropies.iter().flat_map(|rows| &rows[row]) {
            assert!(close(share.d_entropy, *expected, 1e-9), "{case:?}: {} for {expected}", share.d_entropy);
        }
    }
    assert!(close(loss, case.loss, 1e-9), "{case:?}: loss {loss}");
    let tokens = size.tokens() as f64;
    if let (Some(expected), Aggregation::TokenMean) = (case.kl_loss, case.aggregation) {
        assert!(close(ref_kl / tokens, expected, 1e-9), "{case:?}: KL {}", ref_kl / tokens);
    }
    assert!(close(clipped as f64 / tokens, case.clip_fraction, 1e-9), "{case:?}: clipped {clipped}");
    assert!(close(dual_clipped as f64 / tokens, case.dual_clip_fraction, 1e-9), "{case:?}: dual {dual_clipped}");
}

#[derive(Debug, Deserialize)]
struct CorrectionCase {
    batch: String,
    mode: CorrectionMode,
    max: f64,
    ratio: Ratio,
    clip_low: f64,
    clip_high: f64,
    dual_clip: Option<f64>,
    aggregation: Aggregation,
    norm_length: Option<usize>,
    kl: Option<KlEstimator>,
    beta: f64,
    loss: f64,
    d_log_probs: Vec<Vec<f64>>,
    ratio_mean: f64,
    ratio_std: f64,
    cut: f64,
}

#[test]
fn corrected_losses_and_their_gradients_are_those_of_pytorch() {
    let cases: Vec<CorrectionCase> = json(&fixture("correction.json"));
    assert!(cases.len() >= 30);
    let batches = reference().batches;
    for case in &cases {
        let batch = &batches[&case.batch];
        let objective = Objective {
            ratio: case.ratio,
            clip_low: case.clip_low,
            clip_high: case.clip_high,
            dual_clip: case.dual_clip.unwrap_or(0.0),
            aggregation: case.aggregation,
            kl_coefficient: if case.kl.is_some() { case.beta } else { 0.0 },
            kl_estimator: case.kl.unwrap_or_default(),
            ..Objective::default()
        };
        let correction = Correction { mode: case.mode, max: case.max };
        let size = BatchSize::of(batch.lengths.iter().copied(), case.norm_length);
        let (mut loss, mut ratios) = (0.0, RatioStats::default());
        for row in 0..batch.lengths.len() {
            let weights = correction.weights(&batch.old_log_probs[row], &batch.ref_log_probs[row]);
            ratios.add(&weights.ratios);
            let values = ResponseValues {
                log_probs: &batch.log_probs[row],
                old_log_probs: &batch.old_log_probs[row],
                ref_log_probs: case.kl.map(|_| batch.ref_log_probs[row].as_slice()),
                entropy: &batch.entropies[row],
                advantage: batch.advantages[row],
                token_advantages: None,
                weights: Some(&weights.weights),
                penalised: None,
            };
            let share = objective.response(&values, &size);
            loss += share.loss;
            for (ours, expected) in share.d_log_probs.iter().zip(&case.d_log_probs[row]) {
                assert!(close(*ours, *expected, 1e-9), "{case:?}: {ours} for {expected}");
            }
        }
        assert!(close(loss, case.loss, 1e-9), "{case:?}: loss {loss}");
        for (ours, expected) in
            [(ratios.mean(), case.ratio_mean), (ratios.std(), case.ratio_std), (ratios.cut_share(), case.cut)]
        {
            assert!(close(ours.unwrap(), expected, 1e-9), "{case:?}: {ours:?} for {expected}");
        }
    }
}

#[test]
fn log_probs_entropies_and_their_gradient_are_those_of_pytorch() {
    for case in reference().logits {
        let matrix = |rows: &[Vec<f32>]| -> Tensor<B, 2> {
            let shape = [rows.len(), rows[0].len()];
            Tensor::from_data(TensorData::new(rows.concat(), shape), &Default::default())
        };
        let policy =
            InternalPolicy::new(matrix(&case.hidden), matrix(&case.unembedding)).with_temperature(case.temperature);
        let stats = policy.token_stats(&case.tokens);
        let near = |ours: &[f32], expected: &[f64], what: &str| {
            assert_eq!(ours.len(), expected.len());
            for (ours, expected) in ours.iter().zip(expected) {
                let difference = (f64::from(*ours) - expected).abs();
                assert!(difference <= 2e-5 * expected.abs().max(1.0), "{} {what}: {ours} for {expected}", case.name);
            }
        };
        near(&stats.log_probs, &case.log_probs, "log-prob");
        near(&stats.entropy, &case.entropies, "entropy");
        let derivatives = TokenDerivatives { log_probs: case.a.clone(), entropy: Some(case.b.clone()) };
        let gradient = policy.forward(&case.tokens).backward(&derivatives);
        let values = |tensor: Tensor<B, 2>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
        near(&values(gradient.states), &case.d_hidden.concat(), "d hidden");
        near(&values(gradient.unembedding), &case.d_unembedding.concat(), "d unembedding");
    }
}

#[test]
fn overlong_penalties_and_kept_groups_are_those_of_dapo() {
    let reference = reference();
    for case in reference.overlong {
        for (length, expected) in case.lengths.iter().zip(case.penalties) {
            let ours = overlong_penalty(*length, case.limit, case.buffer, case.factor);
            assert!(close(ours, expected, 1e-12), "{length} of {}: {ours} for {expected}", case.limit);
        }
    }
    assert_eq!(overlong_penalty(64, 64, 0, 1.0), 0.0);
    for group in reference.dynamic_sampling.groups {
        assert_eq!(has_reward_variance(&group.rewards), group.kept, "{:?}", group.rewards);
    }
}

/// Within a relative tolerance; a zero is a zero.
fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs() + 1e-15
}
