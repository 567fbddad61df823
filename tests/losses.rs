//! Surrogates, weights, chosen tokens and penalties of other trainers against PyTorch, case by case.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::rl::{
    Advantage, BatchSize, EntropyTarget, KlEstimator, Objective, Processes, ResponseValues, RewardKl, RewardedLength,
    ScaleRewards, TokenValues,
};
use common::{fixture, json};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    losses: Vec<LossCase>,
    advantages: Vec<AdvantageCase>,
    reward_kl: Vec<RewardKlCase>,
    entropy_target: EntropyTargetCase,
}

#[derive(Debug, Deserialize)]
struct LossCase {
    batch: String,
    objective: Objective,
    norm_length: Option<usize>,
    loss: f64,
    d_log_probs: Vec<Vec<f64>>,
    left_out: usize,
    penalised: usize,
}

#[derive(Debug, Deserialize)]
struct AdvantageCase {
    advantage: Advantage,
    scale_rewards: Option<ScaleRewards>,
    groups: Vec<Vec<f64>>,
    expected: Vec<Vec<f64>>,
}

#[derive(Debug, Deserialize)]
struct RewardKlCase {
    batch: String,
    coefficient: f64,
    estimator: KlEstimator,
    penalties: Vec<f64>,
}

#[derive(Deserialize)]
struct EntropyTargetCase {
    entropy: f64,
    step: f64,
    max: f64,
    start: f64,
    entropies: Vec<f64>,
    applied: Vec<f64>,
    coefficients: Vec<f64>,
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

#[derive(Deserialize)]
struct Batches {
    batches: BTreeMap<String, Batch>,
}

fn reference() -> Reference {
    json(&fixture("losses.json"))
}

fn batches() -> BTreeMap<String, Batch> {
    json::<Batches>(&fixture("algorithms.json")).batches
}

#[test]
fn every_loss_and_its_gradient_are_those_of_pytorch() {
    let (reference, batches) = (reference(), batches());
    assert!(reference.losses.len() >= 120);
    for case in &reference.losses {
        check_loss(case, &batches[&case.batch]);
    }
}

fn check_loss(case: &LossCase, batch: &Batch) {
    let objective = &case.objective;
    let size = BatchSize::of(batch.lengths.iter().copied(), case.norm_length);
    let before: Vec<TokenValues<'_>> = (0..batch.lengths.len())
        .map(|row| TokenValues {
            index: row,
            log_probs: &batch.old_log_probs[row],
            entropy: &batch.entropies[row],
            advantage: batch.advantages[row],
        })
        .collect();
    let chosen = objective.choose_tokens(&before, 1, &Processes::alone()).unwrap();
    let (mut loss, mut left_out, mut penalised) = (0.0, 0, 0);
    for (row, chosen) in chosen.iter().enumerate() {
        let kept: Vec<f64> = chosen.kept.iter().flatten().map(|kept| f64::from(u8::from(*kept))).collect();
        left_out += kept.iter().filter(|kept| **kept == 0.0).count();
        penalised += chosen.penalised.iter().flatten().filter(|penalised| **penalised).count();
        let values = ResponseValues {
            log_probs: &batch.log_probs[row],
            old_log_probs: &batch.old_log_probs[row],
            ref_log_probs: objective.needs_reference().then_some(batch.ref_log_probs[row].as_slice()),
            entropy: &batch.entropies[row],
            advantage: batch.advantages[row],
            token_advantages: None,
            weights: chosen.kept.as_ref().map(|_| kept.as_slice()),
            penalised: chosen.penalised.as_deref(),
        };
        let share = objective.response(&values, &size);
        loss += share.loss;
        assert_eq!(share.d_log_probs.len(), case.d_log_probs[row].len());
        for (ours, expected) in share.d_log_probs.iter().zip(&case.d_log_probs[row]) {
            assert!(close(*ours, *expected, 1e-9), "{case:?}: {ours} for {expected}");
        }
    }
    assert!(close(loss, case.loss, 1e-9), "{case:?}: loss {loss}");
    assert_eq!((left_out, penalised), (case.left_out, case.penalised), "{case:?}");
}

#[test]
fn scaled_and_signed_advantages_are_those_of_pytorch() {
    for case in reference().advantages {
        let scored = |rewards: &Vec<f64>| -> Vec<RewardedLength> {
            rewards.iter().map(|reward| RewardedLength { reward: *reward, tokens: 3 }).collect()
        };
        let groups: Vec<Vec<RewardedLength>> = case.groups.iter().map(scored).collect();
        let objective =
            Objective { advantage: case.advantage, scale_rewards: case.scale_rewards, ..Objective::default() };
        let ours = objective.advantages(&groups);
        assert_eq!(ours.len(), case.expected.len());
        for (ours, expected) in ours.iter().flatten().zip(case.expected.iter().flatten()) {
            assert!(close(*ours, *expected, 1e-9), "{case:?}: {ours} for {expected}");
        }
        if groups.len() == 1 {
            continue;
        }
        // The settings that name what an advantage has anyway change no bit of it.
        let named = match (case.advantage, case.scale_rewards) {
            (Advantage::Grpo, Some(ScaleRewards::Group)) => true,
            (Advantage::DrGrpo | Advantage::Rloo, Some(ScaleRewards::None)) => true,
            (_, scale) => scale.is_none(),
        };
        assert_eq!(ours == case.advantage.of(&groups), named, "{case:?}");
    }
}

#[test]
fn kl_penalties_of_rewards_are_those_of_pytorch() {
    let batches = batches();
    for case in reference().reward_kl {
        let batch = &batches[&case.batch];
        let reward_kl = RewardKl { coefficient: case.coefficient, estimator: case.estimator };
        for (row, expected) in case.penalties.iter().enumerate() {
            let ours = reward_kl.penalty(&batch.old_log_probs[row], &batch.ref_log_probs[row]);
            assert!(close(ours, *expected, 1e-9), "{case:?}: {ours} for {expected}");
        }
    }
}

#[test]
fn the_coefficient_of_the_entropy_bonus_follows_the_target() {
    let case = reference().entropy_target;
    let target = EntropyTarget { entropy: case.entropy, step: case.step, max: case.max };
    let mut coefficient = case.start;
    for ((entropy, applied), next) in case.entropies.iter().zip(&case.applied).zip(&case.coefficients) {
        assert!(close(target.applied(coefficient, *entropy), *applied, 1e-12));
        coefficient = target.next(coefficient, *entropy);
        assert!(close(coefficient, *next, 1e-12), "{coefficient} for {next}");
    }
    assert_eq!(target.next(0.005, f64::NAN), 0.005);
}

/// Within a relative tolerance; a zero is a zero.
fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs() + 1e-15
}
