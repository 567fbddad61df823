//! Similarity of the states of layers, against transformers and numpy in f64.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use bupo::analysis::{LayerSimilarity, Statistic, state_similarity};
use bupo::models::decoder::Linear;
use bupo::models::{Decoder, ScoredSequence, Sequence, layer_states};
use burn::tensor::{Tensor, TensorData};
use common::{B, FIXTURES, fixture, json, load};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    fixture: String,
    responses: Vec<Sequence>,
    cosine_to_last: Vec<f64>,
    cka_to_last: Vec<f64>,
    cosine_to_base: Vec<f64>,
    cka_to_base: Vec<f64>,
    /// `[layer][response]`.
    derivatives: Vec<Vec<f64>>,
}

fn cases() -> Vec<Case> {
    json(&fixture("similarity.json"))
}

fn scored(responses: &[Sequence]) -> Vec<ScoredSequence> {
    responses.iter().map(|sequence| ScoredSequence { sequence: sequence.clone(), score: None }).collect()
}

/// The model with the other feed-forwards of `make_similarity.py`.
fn base(mut decoder: Decoder<B>) -> Decoder<B> {
    let change = |linear: &mut Linear<B>| {
        linear.weight = linear.weight.clone().map(|weight| {
            let values = weight.to_data();
            let values =
                values.iter::<f64>().enumerate().map(|(index, value)| value * (1.0 + 0.3 * (index as f64).sin()));
            Tensor::from_data(TensorData::new(values.collect::<Vec<f64>>(), weight.dims()), &weight.device())
        });
    };
    for layer in &mut decoder.layers {
        change(&mut layer.mlp.gate_proj);
        change(&mut layer.mlp.up_proj);
        change(&mut layer.mlp.down_proj);
    }
    decoder
}

fn close(ours: f64, expected: f64, what: &str) {
    assert!((ours - expected).abs() < 2e-4, "{what}: {ours} for {expected}");
}

fn mean(values: &[f64], count: usize) -> f64 {
    values.iter().sum::<f64>() / count as f64
}

#[test]
fn similarities_match_numpy_and_so_do_the_derivatives_for_their_intervals() {
    let cases = cases();
    assert_eq!(cases.len(), FIXTURES.len());
    for case in cases {
        let decoder = load(&case.fixture).decoder;
        let base = base(decoder.clone());
        let responses = scored(&case.responses);
        let similarity = LayerSimilarity::measure(&decoder, Some(&base), &responses, &|_| true).unwrap().unwrap();
        let tokens = case.responses.iter().map(|sequence| sequence.response.len()).sum();
        for (statistic, expected, count) in [
            (Statistic::CosineToLast, &case.cosine_to_last, tokens),
            (Statistic::CosineToBase, &case.cosine_to_base, tokens),
            (Statistic::CkaToLast, &case.cka_to_last, responses.len()),
            (Statistic::CkaToBase, &case.cka_to_base, responses.len()),
        ] {
            let values = similarity.values(statistic);
            assert_eq!(values.len(), expected.len());
            for (layer, (values, expected)) in values.iter().zip(expected).enumerate() {
                let what = format!("{} {} of layer {}", case.fixture, statistic.name(), layer + 1);
                close(mean(values, count), *expected, &what);
            }
        }
        for (layer, (values, expected)) in
            similarity.values(Statistic::CkaToLast).iter().zip(&case.derivatives).enumerate()
        {
            let cka = mean(values, responses.len());
            for (value, expected) in values.iter().zip(expected) {
                let ours = (value - cka) / responses.len() as f64;
                close(ours, *expected, &format!("{} derivative of layer {}", case.fixture, layer + 1));
            }
        }
        // Without another model the comparison with the last layer is the same.
        let alone = LayerSimilarity::measure(&decoder, None, &responses, &|_| true).unwrap().unwrap();
        assert_eq!(alone.values(Statistic::CkaToLast), similarity.values(Statistic::CkaToLast));
        assert!(alone.values(Statistic::CkaToBase).is_empty());
    }
}

#[test]
fn a_model_is_like_itself_and_the_order_of_responses_does_not_matter() {
    let case = &cases()[0];
    let decoder = load(&case.fixture).decoder;
    let responses = scored(&case.responses);
    let itself = LayerSimilarity::measure(&decoder, Some(&decoder), &responses, &|_| true).unwrap().unwrap();
    for value in itself.values(Statistic::CkaToBase).concat() {
        assert!((value - 1.0).abs() < 1e-6, "{value}");
    }
    let reversed: Vec<ScoredSequence> = responses.iter().rev().cloned().collect();
    let reversed = LayerSimilarity::measure(&decoder, None, &reversed, &|_| true).unwrap().unwrap();
    for (a, b) in itself.values(Statistic::CkaToLast).iter().zip(reversed.values(Statistic::CkaToLast)) {
        for (a, b) in a.iter().zip(b.iter().rev()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn the_similarity_of_states_is_that_of_whole_responses() {
    for case in cases() {
        let decoder = load(&case.fixture).decoder;
        let states = layer_states(&decoder, &case.responses).unwrap();
        for (states, expected) in states.iter().zip(case.cosine_to_last.iter().zip(&case.cka_to_last)) {
            let (cosine, cka) = state_similarity(states.clone(), states_of_last(&decoder, &case));
            close(cosine, *expected.0, "cosine");
            close(cka, *expected.1, "cka");
        }
        let one = states[0].clone().narrow(0, 0, 1);
        assert!(state_similarity(one.clone(), one).1.is_nan(), "the CKA of one token is not defined");
    }
}

fn states_of_last(decoder: &Decoder<B>, case: &Case) -> Tensor<B, 2> {
    layer_states(decoder, &case.responses).unwrap().pop().unwrap()
}

#[test]
fn a_comparison_stops_and_refuses_what_it_cannot_read() {
    let decoder = load("qwen3-tied").decoder;
    let response =
        |prompt: &[u32], response: &[u32]| scored(&[Sequence { prompt: prompt.to_vec(), response: response.to_vec() }]);
    assert!(LayerSimilarity::measure(&decoder, None, &response(&[5], &[6, 7]), &|_| false).unwrap().is_none());
    for wrong in [vec![], response(&[5], &[]), response(&[], &[5]), response(&[5], &[9999])] {
        assert!(LayerSimilarity::measure(&decoder, None, &wrong, &|_| true).is_err(), "{wrong:?}");
    }
}
