//! The critic of PPO against PyTorch: advantages, value losses, the value head, and whole updates.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{Norm, PolicySite};
use bupo::models::Sequence;
use bupo::models::decoder::named_tensors;
use bupo::rl::{
    AdamWSettings, Advantage, Critic, CriticConfig, CriticTargets, DecoderOptimizer, LossSpec, Objective,
    PlacedTargets, PolicySpec, Processes, Sample, ValueHead, read_rollouts, response_stats, update_with_critic, whiten,
};
use burn::tensor::{Tensor, TensorData};
use common::{B, fixture, json, load};
use serde::Deserialize;

const MODEL: &str = "qwen3-tied";

#[derive(Deserialize)]
struct Reference {
    gae: Vec<GaeCase>,
    value_losses: Vec<ValueLossCase>,
    head: HeadCase,
    updates: Vec<UpdateCase>,
}

#[derive(Deserialize)]
struct GaeCase {
    gamma: f64,
    lambda: f64,
    responses: Vec<ResponseCase>,
    whitened: Vec<Vec<f64>>,
    explained_variance: f64,
}

#[derive(Deserialize)]
struct ResponseCase {
    rewards: Vec<f64>,
    values: Vec<f32>,
    advantages: Vec<f64>,
    returns: Vec<f64>,
}

#[derive(Deserialize)]
struct ValueLossCase {
    clip: f64,
    old: Vec<f32>,
    returns: Vec<f64>,
    values: Vec<f32>,
    loss: f64,
    d_values: Vec<f64>,
    clipped: usize,
}

#[derive(Deserialize)]
struct HeadCase {
    states: Vec<Vec<f32>>,
    parameters: Vec<f32>,
    d_values: Vec<f32>,
    values: Vec<f64>,
    d_parameters: Vec<f64>,
    d_states: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct UpdateCase {
    policy: PolicySite,
    critic: PolicySite,
    detached: bool,
    value_coefficient: Option<f64>,
    gamma: f64,
    lambda: f64,
    clip_value: f64,
    lr: f64,
    critic_lr: f64,
    parameters: Vec<f32>,
    values: Vec<Vec<f64>>,
    advantages: Vec<Vec<f64>>,
    steps: Vec<StepCase>,
    first_moments: BTreeMap<String, Option<[f64; 2]>>,
}

#[derive(Deserialize)]
struct StepCase {
    loss: f64,
    grad_norm: f64,
    clip_fraction: f64,
    value_loss: f64,
    value_grad_norm: f64,
    value_clip_fraction: f64,
    head: Vec<f64>,
}

fn reference() -> Reference {
    json(&fixture("critic.json"))
}

fn assert_near(ours: impl IntoIterator<Item = impl Into<f64>>, expected: &[f64], tolerance: f64, what: &str) {
    let ours: Vec<f64> = ours.into_iter().map(Into::into).collect();
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (ours, expected) in ours.iter().zip(expected) {
        assert!((ours - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {ours} for {expected}");
    }
}

fn placed(targets: &mut [CriticTargets]) -> Vec<PlacedTargets<'_>> {
    targets.iter_mut().enumerate().map(|(index, targets)| ((index, 0), targets)).collect()
}

#[test]
fn advantages_and_returns_are_those_of_pytorch() {
    let cases = reference().gae;
    assert_eq!(cases.len(), 5);
    for case in cases {
        let mut all = Vec::new();
        for response in &case.responses {
            let ours = CriticTargets::new(&response.rewards, response.values.clone(), case.gamma, case.lambda);
            assert_near(ours.advantages.clone(), &response.advantages, 1e-12, "advantages");
            assert_near(ours.returns.clone(), &response.returns, 1e-12, "returns");
            all.push(ours);
        }
        let stats = whiten(&mut placed(&mut all), &Processes::alone()).unwrap().unwrap();
        for (ours, expected) in all.iter().zip(&case.whitened) {
            assert_near(ours.advantages.clone(), expected, 1e-12, "whitened");
        }
        assert_near(stats.explained_variance, &[case.explained_variance], 1e-12, "explained variance");
    }
}

#[test]
fn value_losses_and_their_gradients_are_those_of_pytorch() {
    let cases = reference().value_losses;
    assert_eq!(cases.iter().filter(|case| case.clipped > 0).count(), 2);
    for case in cases {
        let targets = CriticTargets { values: case.old, returns: case.returns, advantages: Vec::new() };
        let ours = targets.loss(&case.values, case.clip);
        assert_near([ours.loss], &[case.loss], 1e-12, "loss");
        assert_near(ours.d_values, &case.d_values, 1e-12, "d values");
        assert_eq!(ours.clipped, case.clipped);
    }
}

fn matrix(rows: &[Vec<f32>]) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), &Default::default())
}

fn vector(values: &[f32]) -> Tensor<B, 1> {
    Tensor::from_floats(values, &Default::default())
}

fn head(parameters: &[f32]) -> ValueHead<B> {
    let new = ValueHead::new(parameters.len() - 1, &Default::default());
    ValueHead { parameters: vector(parameters), ..new }
}

#[test]
fn the_value_head_and_its_gradients_are_those_of_pytorch() {
    let case = reference().head;
    let (states, head) = (matrix(&case.states), head(&case.parameters));
    let d_values = vector(&case.d_values).unsqueeze_dim(1);
    let numbers = |data: TensorData| data.iter::<f32>().collect::<Vec<_>>();
    assert_near(head.values(states.clone()), &case.values, 1e-6, "values");
    let of_parameters = ValueHead::gradient(states, d_values.clone());
    assert_near(numbers(of_parameters.into_data()), &case.d_parameters, 1e-6, "d parameters");
    assert_near(numbers(head.states_gradient(d_values).into_data()), &case.d_states.concat(), 1e-6, "d states");
}

/// The gradient of the clipped loss with respect to the head, against differences of the loss computed in f64.
#[test]
fn the_heads_gradient_is_that_of_finite_differences() {
    let case = reference().head;
    let old: Vec<f32> = case.values.iter().enumerate().map(|(i, v)| *v as f32 + [0.1, -0.4, 0.45][i % 3]).collect();
    let returns: Vec<f64> = (0..old.len()).map(|i| (i as f64 * 1.3).sin()).collect();
    let targets = CriticTargets { values: old, returns, advantages: Vec::new() };
    const CLIP: f64 = 0.2;
    let loss = |parameters: &[f64]| -> f64 {
        let (weights, bias) = parameters.split_at(parameters.len() - 1);
        let value = |state: &Vec<f32>| state.iter().zip(weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + bias[0];
        let of_token = |((state, old), target): ((&Vec<f32>, &f32), &f64)| {
            let (value, old) = (value(state), f64::from(*old));
            let held = value.clamp(old - CLIP, old + CLIP);
            0.5 * (value - target).powi(2).max((held - target).powi(2))
        };
        case.states.iter().zip(&targets.values).zip(&targets.returns).map(of_token).sum()
    };
    let (states, head) = (matrix(&case.states), head(&case.parameters));
    let found = targets.loss(&head.values(states.clone()), CLIP);
    assert!((1..case.states.len()).contains(&found.clipped), "{}", found.clipped);
    let d_values: Vec<f32> = found.d_values.iter().map(|d| *d as f32).collect();
    let gradient = ValueHead::gradient(states, vector(&d_values).unsqueeze_dim(1));
    let parameters: Vec<f64> = case.parameters.iter().copied().map(f64::from).collect();
    let differences: Vec<f64> = (0..parameters.len())
        .map(|index| {
            let moved = |by: f64| {
                let mut parameters = parameters.clone();
                parameters[index] += by;
                loss(&parameters)
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        })
        .collect();
    assert_near(gradient.into_data().iter::<f32>(), &differences, 1e-5, "finite differences");
}

#[test]
fn whole_updates_are_those_of_pytorch() {
    let cases = reference().updates;
    assert_eq!(cases.len(), 5);
    for case in &cases {
        for max_tokens_per_batch in [4096, 40] {
            check_update(case, max_tokens_per_batch);
        }
    }
}

fn check_update(case: &UpdateCase, max_tokens_per_batch: usize) {
    let what = format!("{} {} detached {} {max_tokens_per_batch}", case.policy, case.critic, case.detached);
    let mut decoder = load(MODEL).decoder;
    let rollouts = read_rollouts(&fixture(MODEL).join("rollouts.jsonl"), decoder.vocab_size()).unwrap();
    let sequences: Vec<Sequence> = rollouts
        .iter()
        .map(|rollout| Sequence { prompt: rollout.prompt.clone(), response: rollout.response.clone() })
        .collect();
    let loss = LossSpec {
        policy: PolicySpec { site: case.policy, norm: Norm::None, temperature: 1.0 },
        objective: Objective { advantage: Advantage::Gae, ..Objective::default() },
        norm_length: None,
        max_tokens_per_batch,
        recompute: false,
        correction: None,
        terms: Vec::new(),
    };
    let config = CriticConfig {
        site: case.critic,
        learning_rate: case.critic_lr,
        gamma: case.gamma,
        gae_lambda: case.lambda,
        clip_value: case.clip_value,
        detached: case.detached,
        value_coefficient: case.value_coefficient,
        ..CriticConfig::default()
    };
    let settings = AdamWSettings { learning_rate: case.lr, ..AdamWSettings::default() };
    let mut optimizer = DecoderOptimizer::<B>::new(settings);
    let mut critic = Critic::new(config, &settings, &decoder).unwrap();
    critic.head = head(&case.parameters);

    let values = critic.values(&decoder, &sequences, max_tokens_per_batch).unwrap();
    let mut targets: Vec<CriticTargets> = values
        .into_iter()
        .zip(&rollouts)
        .map(|(values, rollout)| {
            let mut rewards = vec![0.0; values.len()];
            *rewards.last_mut().unwrap() = rollout.reward;
            CriticTargets::new(&rewards, values, case.gamma, case.lambda)
        })
        .collect();
    whiten(&mut placed(&mut targets), &Processes::alone()).unwrap();
    for (index, targets) in targets.iter().enumerate() {
        assert_near(targets.values.clone(), &case.values[index], 1e-5, &format!("{what}: values"));
        assert_near(targets.advantages.clone(), &case.advantages[index], 1e-5, &format!("{what}: advantages"));
    }
    let old = response_stats(&decoder, &sequences, &loss.policy, max_tokens_per_batch).unwrap();
    let samples: Vec<Sample> = sequences
        .into_iter()
        .zip(targets)
        .zip(old)
        .map(|((sequence, targets), old)| Sample {
            sequence,
            advantage: 0.0,
            critic: Some(targets),
            old_log_probs: Some(old.log_probs),
            ref_log_probs: None,
            sampling: None,
            chosen: Default::default(),
            terms: Vec::new(),
        })
        .collect();
    let tokens: usize = samples.iter().map(|sample| sample.sequence.response.len()).sum();
    for (number, step) in case.steps.iter().enumerate() {
        let stats = update_with_critic(&mut decoder, &mut optimizer, &mut critic, &samples, &loss).unwrap();
        let of_critic = stats.critic.unwrap();
        let tolerance = if number == 0 { 2e-5 } else { 1e-3 };
        let near = |ours: f64, expected: f64, name: &str| {
            let what = format!("{what}, update {number}: {name}");
            assert_near([ours], &[expected], tolerance, &what);
        };
        near(stats.loss, step.loss, "loss");
        near(stats.grad_norm / step.grad_norm, 1.0, "gradient norm");
        near(stats.clip_ratio * tokens as f64, step.clip_fraction * tokens as f64, "clipped tokens");
        near(of_critic.loss, step.value_loss, "value loss");
        near(of_critic.grad_norm / step.value_grad_norm, 1.0, "norm of the head's gradient");
        near(of_critic.clip_ratio * tokens as f64, step.value_clip_fraction * tokens as f64, "clipped values");
        let parameters = critic.head.parameters.clone().into_data();
        assert_near(parameters.iter::<f32>(), &step.head, tolerance, &format!("{what}, update {number}: head"));
        if number == 0 {
            let moments = optimizer.moments();
            let named = named_tensors(&decoder);
            assert_eq!(named.len(), case.first_moments.len(), "{what}");
            for tensor in named {
                let ours = moments.get(&tensor.id.val()).map(|moments| {
                    let first: Vec<f64> = moments.first.clone().values().to_data().iter::<f64>().collect();
                    let projected = first.iter().enumerate().map(|(i, m)| ((i + 1) as f64).sin() * m).sum::<f64>();
                    [first.iter().map(|m| m * m).sum::<f64>().sqrt(), projected]
                });
                let expected = case.first_moments[&tensor.name];
                assert_eq!(ours.is_some(), expected.is_some(), "{what}: {}", tensor.name);
                for (ours, value) in ours.iter().flatten().zip(expected.iter().flatten()) {
                    let size = expected.unwrap()[0];
                    assert!((ours - value).abs() <= 1e-4 * size, "{what}: {}: {ours} for {value}", tensor.name);
                }
            }
        }
    }
}
