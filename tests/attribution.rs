//! Direct logit attribution against transformers in f64.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::PolicySite;
use bupo::models::{Attribution, MeasureOptions, Sequence, attribution, measure, trace};
use common::{fixture, json, load, max_difference};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    fixture: String,
    tokens: Vec<u32>,
    chosen: Vec<u32>,
    probable: Vec<u32>,
    logits: Vec<f64>,
    added: BTreeMap<String, Vec<f64>>,
}

fn cases() -> Vec<Case> {
    json(&fixture("attribution.json"))
}

fn close(ours: &[f32], expected: &[f64], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (ours, expected) in ours.iter().zip(expected) {
        let difference = (f64::from(*ours) - expected).abs();
        assert!(difference <= 1e-4 + 1e-4 * expected.abs(), "{what}: {ours} for {expected}");
    }
}

/// The embedding, and all attentions and feed-forwards, add up to the logit.
fn adds_up(attribution: &Attribution) {
    for (place, logit) in attribution.logits.iter().enumerate() {
        let sites = attribution.sites.iter().filter(|site| !matches!(site.site, PolicySite::Layer(_)));
        let sum = sites.map(|site| f64::from(site.added[place])).sum::<f64>() + f64::from(attribution.embedding[place]);
        assert!((sum - f64::from(*logit)).abs() <= 2e-5 * (1.0 + f64::from(logit.abs())), "{sum} for {logit}");
    }
}

#[test]
fn contributions_to_logits_match_transformers_and_add_up() {
    let cases = cases();
    assert_eq!(cases.len(), common::FIXTURES.len());
    for case in cases {
        let decoder = load(&case.fixture).decoder;
        for (place, token) in case.chosen.iter().enumerate() {
            let one = attribution(&decoder, &case.tokens, Some(&[place]), Some(*token)).unwrap();
            adds_up(&one);
            assert_eq!(one.tokens, [*token]);
            close(&one.logits, &[case.logits[place]], &format!("{} logit", case.fixture));
            close(&one.embedding, &[case.added["embed"][place]], &format!("{} embed", case.fixture));
            let mut before = case.added["embed"][place];
            for sites in one.sites.chunks(3) {
                let [attn, ffn, layer] = sites else { panic!("three sites per layer") };
                let [a, f] = [attn, ffn].map(|site| case.added[&site.site.to_string()][place]);
                for (site, added, before) in [(attn, a, before), (ffn, f, before + a), (layer, a + f, before)] {
                    let what = format!("{} {}", case.fixture, site.site);
                    close(&site.added, &[added], &what);
                    close(&site.before, &[before], &what);
                }
                before += a + f;
            }
        }
    }
}

#[test]
fn without_a_token_the_most_probable_one_is_attributed() {
    for case in cases() {
        let decoder = load(&case.fixture).decoder;
        let all = attribution(&decoder, &case.tokens, None, None).unwrap();
        adds_up(&all);
        assert_eq!(all.tokens, case.probable, "{}", case.fixture);
        let logits: Vec<f32> =
            trace(&decoder, std::slice::from_ref(&case.tokens)).unwrap()["logits"].iter::<f32>().collect();
        let vocab = logits.len() / case.tokens.len();
        let best = logits.chunks(vocab).map(|row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        assert!(max_difference(&all.logits, &best.collect::<Vec<_>>()) < 1e-4, "{}", case.fixture);
    }
}

#[test]
fn measures_of_a_response_have_the_attribution_of_its_tokens() {
    for case in cases() {
        let decoder = load(&case.fixture).decoder;
        let (prompt, response) = case.tokens.split_at(4);
        // Another response in the batch changes nothing.
        let sequences = [(prompt, response), (response, prompt)]
            .map(|(prompt, response)| Sequence { prompt: prompt.to_vec(), response: response.to_vec() });
        let measures = &measure(&decoder, &sequences, MeasureOptions::default()).unwrap()[0];
        // The state at a position predicts the next token, which is the chosen one of every position but the last.
        let places = 3..case.tokens.len() - 1;
        close(measures.logits.as_ref().unwrap(), &case.logits[places.clone()], &case.fixture);
        for site in &measures.sites {
            let of = |kind: &str| &case.added[&format!("{kind}:{}", site.site.layer().unwrap())][places.clone()];
            let expected = match site.site {
                PolicySite::Layer(_) => of("attn").iter().zip(of("ffn")).map(|(a, f)| a + f).collect(),
                site => of(site.kind()).to_vec(),
            };
            close(site.attribution.as_ref().unwrap(), &expected, &format!("{} {}", case.fixture, site.site));
        }
        let first = measures.sites[0].input_attribution.as_ref().unwrap();
        close(first, &case.added["embed"][places], "the embedding");
        let some = &measure(&decoder, &sequences, MeasureOptions { layers: Some(1), ..Default::default() }).unwrap()[0];
        assert!(some.logits.is_none() && some.sites.iter().all(|site| site.attribution.is_none()));
    }
}

#[test]
fn ids_positions_and_tokens_outside_are_refused() {
    let decoder = load("qwen3-tied").decoder;
    for (ids, positions, token) in
        [(vec![], None, None), (vec![9999], None, None), (vec![1], Some(&[1][..]), None), (vec![1], None, Some(9999))]
    {
        assert!(attribution(&decoder, &ids, positions, token).is_err(), "{ids:?}");
    }
}
