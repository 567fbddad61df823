//! Losses of several sites: divergences against PyTorch, and sums of losses against the sum of their gradients.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{Divergence, InternalPolicy, Norm, PolicySite};
use bupo::models::decoder::RandomInit;
use bupo::models::{Decoder, ModelConfig, Sequence};
use bupo::rl::{
    AdamWSettings, DecoderOptimizer, LossSpec, Objective, PolicySpec, Sample, SiteDivergence, SiteTerm, TermLogProbs,
    TrainConfig, UpdateStats, read_rollouts, response_stats, update,
};
use burn::tensor::{Tensor, TensorData};
use common::{B, fixture, json, load};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    states: Vec<Vec<f32>>,
    full_states: Vec<Vec<f32>>,
    unembedding: Vec<Vec<f32>>,
    weights: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    divergence: SiteDivergence,
    temperature: f64,
    detached: bool,
    values: Vec<f64>,
    d_states: Vec<Vec<f64>>,
    d_full_states: Option<Vec<Vec<f64>>>,
    d_unembedding: Vec<Vec<f64>>,
}

#[test]
fn divergences_and_their_gradients_are_those_of_pytorch() {
    let reference: Reference = json(&fixture("sites.json"));
    assert_eq!(reference.cases.len(), 12);
    let matrix = |rows: &[Vec<f32>]| -> Tensor<B, 2> {
        Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), &Default::default())
    };
    let values = |tensor: Tensor<B, 2>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
    for case in &reference.cases {
        let policy = |states| {
            InternalPolicy::new(matrix(states), matrix(&reference.unembedding)).with_temperature(case.temperature)
        };
        let divergence = match case.divergence {
            SiteDivergence::Kl => Divergence::Kl,
            SiteDivergence::ReverseKl => Divergence::ReverseKl,
            SiteDivergence::Js => Divergence::Js,
            SiteDivergence::None => unreachable!(),
        };
        let full = policy(&reference.full_states);
        let ours = policy(&reference.states).align(&full, divergence, &reference.weights, case.detached);
        let near = |ours: &[f32], expected: &[f64], what: &str| {
            assert_eq!(ours.len(), expected.len());
            for (ours, expected) in ours.iter().zip(expected) {
                let difference = (f64::from(*ours) - expected).abs();
                assert!(difference <= 3e-5 * expected.abs().max(1.0), "{case:?} {what}: {ours} for {expected}");
            }
        };
        near(&ours.values, &case.values, "value");
        near(&values(ours.policy.states), &case.d_states.concat(), "d states");
        let mut unembedding = ours.policy.unembedding;
        assert_eq!(ours.full.is_some(), case.d_full_states.is_some());
        if let (Some(full), Some(expected)) = (ours.full, &case.d_full_states) {
            near(&values(full.states), &expected.concat(), "d full states");
            unembedding = unembedding + full.unembedding;
        }
        near(&values(unembedding), &case.d_unembedding.concat(), "d unembedding");
    }
}

const MODEL: &str = "qwen3-tied";

#[derive(Deserialize)]
struct PresetCase {
    temperature: f64,
    old_log_probs: Vec<Vec<f32>>,
    loss: f64,
    divergence: f64,
    grad_norm: f64,
    first_moments: BTreeMap<String, Option<[f64; 2]>>,
}

/// The first phases of the presets, as a run has them.
#[test]
fn the_losses_of_oisd_and_dsrl_and_their_gradients_are_those_of_pytorch() {
    let reference: BTreeMap<String, PresetCase> = json(&fixture("presets.json"));
    assert_eq!(reference.len(), 2);
    for (name, case) in &reference {
        let mut decoder = load(MODEL).decoder;
        let pairs = [format!("loss={name}"), format!("rollout.temperature={}", case.temperature)];
        let config = TrainConfig::load(None, &pairs).unwrap();
        let (_, phase) = config.schedule(4).unwrap().at(1);
        let policy = PolicySpec { site: phase.site, norm: phase.norm, temperature: config.rollout.temperature };
        let loss = LossSpec::from_config(&config, policy).in_phase(&phase);
        let rollouts = read_rollouts(&fixture(MODEL).join("rollouts.jsonl"), decoder.vocab_size()).unwrap();
        let samples: Vec<Sample> = rollouts
            .into_iter()
            .enumerate()
            .map(|(index, rollout)| {
                let whole = Sequence { prompt: rollout.prompt, response: rollout.response };
                let sequence = if phase.without_prompt { whole.without_prompt() } else { whole };
                Sample { old_log_probs: Some(case.old_log_probs[index].clone()), ..sample(sequence, index) }
            })
            .filter(|sample| !sample.sequence.response.is_empty())
            .collect();
        let settings = AdamWSettings { max_grad_norm: 1e9, ..config.optimizer };
        let mut optimizer = DecoderOptimizer::<B>::new(settings);
        let stats = update(&mut decoder, &mut optimizer, &samples, &loss).unwrap();
        for (ours, expected) in
            [(stats.loss, case.loss), (stats.divergence, case.divergence), (stats.grad_norm / case.grad_norm, 1.0)]
        {
            assert!((ours - expected).abs() <= 2e-5, "{name}: {ours} for {expected}");
        }
        let named = bupo::models::decoder::named_tensors(&decoder);
        assert_eq!(named.len(), case.first_moments.len());
        for tensor in named {
            let first: Vec<f64> =
                optimizer.moments()[&tensor.id.val()].first.clone().values().to_data().iter().collect();
            let projected = first.iter().enumerate().map(|(i, m)| ((i + 1) as f64).sin() * m).sum::<f64>();
            let norm = first.iter().map(|m| m * m).sum::<f64>().sqrt();
            let expected = case.first_moments[&tensor.name].unwrap();
            for (ours, value) in [norm, projected].iter().zip(&expected) {
                assert!((ours - value).abs() <= 1e-4 * expected[0], "{name} {}: {ours} for {value}", tensor.name);
            }
        }
    }
}

/// The sample at an index, with no log-probs but its own.
fn sample(sequence: Sequence, index: usize) -> Sample {
    Sample {
        sequence,
        advantage: [1.0, -0.5, 0.25][index % 3],
        critic: None,
        old_log_probs: None,
        ref_log_probs: None,
        sampling: None,
        chosen: Default::default(),
        terms: Vec::new(),
    }
}

fn policy(site: &str, norm: Norm) -> PolicySpec {
    PolicySpec { site: site.parse::<PolicySite>().unwrap(), norm, temperature: 0.9 }
}

fn term(site: &str, norm: Norm, weight: f64) -> SiteTerm {
    SiteTerm {
        site: site.parse().unwrap(),
        norm,
        weight,
        divergence: SiteDivergence::None,
        divergence_weight: 1.0,
        advantage_weighted: false,
        detached: true,
    }
}

/// AdamW's first moments, a tenth of the gradient, after an update with this loss. Ratios differ from 1 at every site.
fn first_moments(policy: PolicySpec, terms: &[SiteTerm], recompute: bool) -> (UpdateStats, BTreeMap<u64, Vec<f32>>) {
    let mut decoder = load(MODEL).decoder;
    let rollouts = read_rollouts(&fixture(MODEL).join("rollouts.jsonl"), decoder.vocab_size()).unwrap();
    let sequences: Vec<_> = rollouts
        .iter()
        .map(|rollout| Sequence { prompt: rollout.prompt.clone(), response: rollout.response.clone() })
        .collect();
    let old = |policy: &PolicySpec| -> Vec<Vec<f32>> {
        let stats = response_stats(&decoder, &sequences, policy, 64).unwrap();
        stats.into_iter().map(|stats| stats.log_probs.iter().map(|log_prob| log_prob - 0.1).collect()).collect()
    };
    let own = old(&policy);
    let of_terms: Vec<Vec<Vec<f32>>> =
        terms.iter().map(|term| old(&PolicySpec { site: term.site, norm: term.norm, ..policy })).collect();
    let samples: Vec<Sample> = sequences
        .iter()
        .enumerate()
        .map(|(index, sequence)| Sample {
            old_log_probs: Some(own[index].clone()),
            terms: of_terms.iter().map(|old| TermLogProbs { old: Some(old[index].clone()), reference: None }).collect(),
            ..sample(sequence.clone(), index)
        })
        .collect();
    let loss = LossSpec {
        policy,
        objective: Objective { entropy_coefficient: 0.01, ..Objective::default() },
        norm_length: None,
        max_tokens_per_batch: 64,
        recompute,
        correction: None,
        terms: terms.to_vec(),
    };
    updated(&mut decoder, &samples, &loss)
}

fn updated(decoder: &mut Decoder<B>, samples: &[Sample], loss: &LossSpec) -> (UpdateStats, BTreeMap<u64, Vec<f32>>) {
    let settings = AdamWSettings { max_grad_norm: 1e9, ..AdamWSettings::default() };
    let mut optimizer = DecoderOptimizer::<B>::new(settings);
    let stats = update(decoder, &mut optimizer, samples, loss).unwrap();
    // Ids differ between loads of a model, not their order.
    let moments = optimizer.moments();
    let ids: Vec<u64> =
        bupo::models::decoder::named_tensors(decoder).into_iter().map(|tensor| tensor.id.val()).collect();
    let by_place = ids.iter().enumerate().filter_map(|(place, id)| {
        Some((place as u64, moments.get(id)?.first.clone().values().to_data().iter::<f32>().collect()))
    });
    (stats, by_place.collect())
}

/// Checks that `sum` is the sum of the others by their weights.
fn assert_sum(sum: &BTreeMap<u64, Vec<f32>>, parts: &[(&BTreeMap<u64, Vec<f32>>, f32)], what: &str) {
    for (place, values) in sum {
        let size = values.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
        for (index, value) in values.iter().enumerate() {
            let part = |(part, weight): &(&BTreeMap<u64, Vec<f32>>, f32)| {
                part.get(place).map_or(0.0, |values| values[index] * weight)
            };
            let expected: f32 = parts.iter().map(part).sum();
            assert!((value - expected).abs() <= 2e-5 * size.max(1e-4), "{what} {place}: {value} for {expected}");
        }
    }
}

#[test]
fn a_sum_of_sites_has_the_sum_of_their_gradients() {
    let terms = [term("layer:1", Norm::Final, 0.5), term("layer:2", Norm::None, 0.25)];
    let (full, layer_1, layer_2) = (
        first_moments(policy("full", Norm::None), &[], false),
        first_moments(policy("layer:1", Norm::Final), &[], false),
        first_moments(policy("layer:2", Norm::None), &[], false),
    );
    let (stats, sum) = first_moments(policy("full", Norm::None), &terms, false);
    assert_sum(&sum, &[(&full.1, 1.0), (&layer_1.1, 0.5), (&layer_2.1, 0.25)], "policy losses");
    let expected = full.0.loss + 0.5 * layer_1.0.loss + 0.25 * layer_2.0.loss;
    assert!((stats.loss - expected).abs() <= 1e-6, "{} for {expected}", stats.loss);
    // Statistics are those of the phase's site.
    assert_eq!((stats.entropy, stats.kl, stats.divergence), (full.0.entropy, full.0.kl, 0.0));
    let (recomputed, same) = first_moments(policy("full", Norm::None), &terms, true);
    assert!(recomputed == stats && same == sum, "recomputed");
}

/// A vocabulary so large that the logits of all responses are not saved together, and those of one response not even alone.
#[test]
fn blocks_of_responses_have_the_gradient_of_the_responses_one_by_one() {
    let config = r#"{"model_type": "qwen3", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48, "vocab_size": 151936, "tie_word_embeddings": true}"#;
    let config = ModelConfig::from_json(config).unwrap();
    let samples = [150, 40, 100, 230].into_iter().enumerate().map(|(index, tokens)| {
        let response = (0..tokens).map(|place| ((index * 977 + place * 7919) % 151_936) as u32).collect();
        sample(Sequence { prompt: vec![3, 5 + index as u32], response }, index)
    });
    let samples: Vec<Sample> = samples.collect();
    let divergence = SiteTerm { divergence: SiteDivergence::Js, ..term("layer:1", Norm::None, 0.5) };
    let of = |max_tokens_per_batch: usize| {
        let mut decoder = Decoder::<B>::build(&config, &mut RandomInit::new(7, Default::default())).unwrap();
        let loss = LossSpec {
            policy: policy("full", Norm::None),
            objective: Objective { entropy_coefficient: 0.01, ..Objective::default() },
            norm_length: None,
            max_tokens_per_batch,
            recompute: false,
            correction: None,
            terms: vec![divergence],
        };
        updated(&mut decoder, &samples, &loss)
    };
    let ((together, gradient), (apart, of_each)) = (of(1000), of(1));
    assert_sum(&gradient, &[(&of_each, 1.0)], "in blocks");
    for (together, apart) in [
        (together.loss, apart.loss),
        (together.grad_norm, apart.grad_norm),
        (together.entropy, apart.entropy),
        (together.divergence, apart.divergence),
    ] {
        assert!(apart != 0.0 && (together - apart).abs() <= 1e-5 * apart.abs(), "{together} for {apart}");
    }
}

#[test]
fn divergences_are_linear_in_their_weight_and_reach_the_full_policy_unless_detached() {
    let of = |weight: f64, advantage_weighted: bool, detached: bool| {
        let js = SiteTerm {
            divergence: SiteDivergence::Js,
            divergence_weight: weight,
            advantage_weighted,
            detached,
            ..term("layer:1", Norm::None, 0.0)
        };
        first_moments(policy("full", Norm::None), &[js], false)
    };
    let (without, full) = first_moments(policy("full", Norm::None), &[], false);
    let (one, of_one) = of(1.0, false, true);
    let (three, of_three) = of(3.0, false, true);
    assert_sum(&of_three, &[(&of_one, 3.0), (&full, -2.0)], "three times");
    assert!(one.divergence > 0.01 && one.divergence == three.divergence);
    // Token mean: the loss has the mean divergence.
    assert!((one.loss - without.loss - one.divergence).abs() <= 1e-6, "{} {}", one.loss, one.divergence);
    let changed = |a: &BTreeMap<u64, Vec<f32>>, b: &BTreeMap<u64, Vec<f32>>| -> Vec<u64> {
        let differs = |place: &u64| a[place].iter().zip(&b[place]).any(|(a, b)| (a - b).abs() > 1e-7);
        a.keys().copied().filter(|place| differs(place)).collect()
    };
    // Detached, the divergence changes the gradients of the embedding and of layer 1 only.
    let detached = changed(&of_one, &full);
    let (_, attached) = of(1.0, false, false);
    let attached = changed(&attached, &full);
    assert!(!detached.is_empty() && detached.len() < attached.len(), "{detached:?} {attached:?}");
    let (weighted, _) = of(1.0, true, true);
    assert!(weighted.loss != one.loss && weighted.divergence == one.divergence);
}
