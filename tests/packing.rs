//! Packed batches against padded ones: the same numbers from fewer tokens.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, TokenDerivatives, TokenStats};
use bupo::models::decoder::{Gradients, named_tensors};
use bupo::models::{Decoder, Sequence, SequenceBatch};
use common::{B, FIXTURES, load};

/// Two groups with a prompt each, one of the prompts the beginning of the other, and a response of one token.
fn sequences() -> Vec<Sequence> {
    let prompts = [vec![5, 17, 80, 3], vec![5, 17]];
    let row = |index: usize| Sequence {
        prompt: prompts[index / 3].clone(),
        response: (0..[7, 1, 4, 5, 9, 2][index]).map(|place| (3 + (index * 31 + place * 7) % 90) as u32).collect(),
    };
    (0..6).map(row).collect()
}

/// Statistics of the response tokens, and the gradients of a loss of their log-probs and entropies.
fn pass(
    decoder: &Decoder<B>,
    batch: &SequenceBatch,
    site: PolicySite,
    recompute: bool,
) -> (TokenStats, BTreeMap<String, Vec<f32>>) {
    let tokens = batch.tokens(&decoder.device());
    let saved =
        decoder.forward_train(tokens.clone(), decoder.batch_context(batch), site, Norm::None, recompute).unwrap();
    let mut context = decoder.batch_context(batch);
    let states = decoder.site_state(tokens, site, Norm::None, &mut context).unwrap();
    assert_eq!(states.flatten::<2>(0, 1).into_data(), saved.states.clone().into_data(), "the same forward pass");
    let policy = InternalPolicy::new(batch.gather_states(saved.states.clone()), decoder.unembedding());
    let forward = policy.forward(&batch.targets);
    let stats = forward.stats.clone();
    let weight = |index: usize| (index as f32 * 0.9).sin();
    let derivatives = TokenDerivatives {
        log_probs: (0..batch.targets.len()).map(weight).collect(),
        entropy: Some((0..batch.targets.len()).map(|index| 0.1 * weight(index + 5)).collect()),
    };
    let mut gradients = Gradients::new();
    let back = forward.backward(&derivatives);
    gradients.add(decoder.unembedding_id(), back.unembedding);
    decoder.backward(saved, batch.scatter_grad(back.states), &mut gradients);
    let named = named_tensors(decoder).into_iter();
    let named =
        named.filter_map(|tensor| Some((tensor.name, gradients.take(tensor.id)?.into_data().to_vec().unwrap())));
    (stats, named.collect())
}

#[test]
fn packed_batches_give_the_numbers_of_padded_ones() {
    let sequences = sequences();
    let [padded, packed] = [SequenceBatch::padded(&sequences), SequenceBatch::packed(&sequences)];
    assert_eq!((padded.num_tokens(), packed.num_tokens()), (60, 28));
    assert_eq!(padded.targets, packed.targets);
    for name in FIXTURES {
        let decoder = load(name).decoder;
        for site in [PolicySite::Full, PolicySite::Layer(2), PolicySite::Attn(2), PolicySite::Ffn(1)] {
            let (expected_stats, expected) = pass(&decoder, &padded, site, false);
            let (stats, ours) = pass(&decoder, &packed, site, false);
            for (ours, expected) in
                [(&stats.log_probs, &expected_stats.log_probs), (&stats.entropy, &expected_stats.entropy)]
            {
                assert!(common::max_difference(ours, expected) < 1e-5, "{name} {site}");
            }
            assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (key, values) in &expected {
                let size = values.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
                let difference = common::max_difference(&ours[key], values);
                assert!(difference <= 1e-5 * size.max(1e-2), "{name} {site} {key}: {difference} of {size}");
            }
            assert_eq!((stats, ours), pass(&decoder, &packed, site, true), "{name} {site} recomputed");
        }
    }
}

#[test]
fn a_batch_is_packed_where_that_spares_tokens() {
    let decoder = load("qwen3-tied").decoder;
    assert_eq!(decoder.batch(&sequences()).num_tokens(), 28);
    let alike: Vec<Sequence> =
        (0..4).map(|row| Sequence { prompt: vec![row, 3], response: vec![7, row, 9, 2] }).collect();
    let batch = decoder.batch(&alike);
    assert_eq!((batch.num_tokens(), batch.tokens::<B>(&decoder.device()).dims()), (20, [4, 5]));
}
