//! Statistics of internal policies on responses, against transformers in f64.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use bupo::core::{Norm, PolicyComparison, PolicySite, ResidualDecoder};
use bupo::models::{Decoder, MeasureOptions, ModelError, ResponseMeasures, Sequence, measure};
use common::{B, fixture, json, load};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    fixture: String,
    norm: Norm,
    prompt: Vec<u32>,
    response: Vec<u32>,
    sites: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    entropy: Vec<f64>,
    log_probs: Vec<f64>,
    ranks: Vec<u32>,
    agrees: Vec<bool>,
    kl: Vec<f64>,
    reverse_kl: Vec<f64>,
    js: Vec<f64>,
    input_entropy: Option<Vec<f64>>,
    cosine: Option<Vec<f64>>,
    norm: Option<Vec<f64>>,
    participation: Option<f64>,
}

fn cases() -> Vec<Case> {
    json(Path::new(&fixture("measures.json")))
}

fn measure_one(
    decoder: &Decoder<B>,
    prompt: &[u32],
    response: &[u32],
    norm: Norm,
) -> Result<ResponseMeasures, ModelError> {
    let sequence = Sequence { prompt: prompt.to_vec(), response: response.to_vec() };
    Ok(measure(decoder, &[sequence], MeasureOptions { norm, layers: None })?.remove(0))
}

fn close(ours: &[f32], expected: &[f64], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (ours, expected) in ours.iter().zip(expected) {
        let difference = (f64::from(*ours) - expected).abs();
        assert!(difference <= 1e-4 + 1e-4 * expected.abs(), "{what}: {ours} for {expected}");
    }
}

fn check_policy(ours: &PolicyComparison, expected: &Expected, what: &str) {
    let divergence = ours.divergence.as_ref().unwrap();
    for (ours, expected, name) in [
        (&ours.entropy, &expected.entropy, "entropy"),
        (&ours.log_probs, &expected.log_probs, "log-probs"),
        (&divergence.kl, &expected.kl, "kl"),
        (&divergence.reverse_kl, &expected.reverse_kl, "reverse kl"),
        (&divergence.js, &expected.js, "js"),
    ] {
        close(ours, expected, &format!("{what} {name}"));
    }
    assert_eq!((&ours.ranks, &divergence.agrees), (&expected.ranks, &expected.agrees), "{what}");
}

#[test]
fn every_measure_matches_its_definition() {
    let mut checked = 0;
    for case in cases() {
        let ResponseMeasures { sites, full, .. } =
            measure_one(&load(&case.fixture).decoder, &case.prompt, &case.response, case.norm).unwrap();
        assert_eq!(sites.len() + 1, case.sites.len());
        check_policy(full.as_ref().unwrap(), &case.sites["full"], &format!("{} full", case.fixture));
        for site in &sites {
            let what = format!("{} norm {} {}", case.fixture, case.norm, site.site);
            let expected = &case.sites[&site.site.to_string()];
            check_policy(&site.policy, expected, &what);
            close(&site.input_entropy, expected.input_entropy.as_ref().unwrap(), &format!("{what} input entropy"));
            close(&site.cosine, expected.cosine.as_ref().unwrap(), &format!("{what} cosine"));
            close(&site.state_norm, expected.norm.as_ref().unwrap(), &format!("{what} norm"));
            close(&[site.participation as f32], &[expected.participation.unwrap()], &format!("{what} participation"));
            checked += 1;
        }
    }
    assert!(checked >= 48, "{checked} sites");
}

#[test]
fn measures_do_not_depend_on_later_tokens() {
    let decoder = load("qwen3-tied").decoder;
    let (prompt, response) = (vec![5, 17, 80], vec![9, 4, 60, 2]);
    let whole = measure_one(&decoder, &prompt, &response, Norm::None).unwrap();
    for cut in 1..response.len() {
        let part = measure_one(&decoder, &prompt, &response[..cut], Norm::None).unwrap();
        for (whole, part) in whole.sites.iter().zip(&part.sites) {
            assert_eq!(part.policy.entropy.len(), cut);
            let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(same(&part.policy.entropy, &whole.policy.entropy), "{} {cut}", part.site);
            assert!(same(&part.policy.log_probs, &whole.policy.log_probs), "{} {cut}", part.site);
            assert!(same(&part.entropy_change().collect::<Vec<_>>(), &whole.entropy_change().collect::<Vec<_>>()));
        }
    }
}

#[test]
fn the_last_layer_with_the_final_norm_equals_the_full_policy() {
    for case in cases().iter().filter(|case| case.norm == Norm::Final) {
        let decoder = load(&case.fixture).decoder;
        let measures = measure_one(&decoder, &case.prompt, &case.response, Norm::Final).unwrap();
        let last = measures.sites.iter().find(|site| site.site == PolicySite::Layer(decoder.num_layers())).unwrap();
        let divergence = last.policy.divergence.as_ref().unwrap();
        assert!(divergence.kl.iter().chain(&divergence.reverse_kl).all(|kl| *kl == 0.0), "{}", case.fixture);
        assert!(divergence.agrees.iter().all(|agrees| *agrees));
        assert_eq!(&last.policy, measures.full.as_ref().unwrap());
    }
}

#[test]
fn invalid_sequences_are_refused() {
    let decoder = load("qwen3-tied").decoder;
    for (prompt, response) in [(vec![], vec![1]), (vec![1], vec![]), (vec![1], vec![9999])] {
        assert!(measure_one(&decoder, &prompt, &response, Norm::None).is_err(), "{prompt:?} {response:?}");
    }
}

#[test]
fn measures_do_not_depend_on_the_batch() {
    let decoder = load("llama3-scaled").decoder;
    let sequence = |prompt: &[u32], response: &[u32]| Sequence { prompt: prompt.to_vec(), response: response.to_vec() };
    let sequences =
        [sequence(&[5, 17, 80], &[9, 4, 60, 2]), sequence(&[7], &[3]), sequence(&[1, 2], &[8, 8, 30, 11, 4, 6])];
    let together = measure(&decoder, &sequences, MeasureOptions::default()).unwrap();
    for (sequence, together) in sequences.iter().zip(&together) {
        let alone = &measure(&decoder, std::slice::from_ref(sequence), MeasureOptions::default()).unwrap()[0];
        for (alone, together) in alone.sites.iter().zip(&together.sites) {
            let near =
                |a: &[f32], b: &[f32]| assert!(common::max_difference(a, b) < 1e-4, "{}: {a:?} {b:?}", alone.site);
            near(&alone.policy.entropy, &together.policy.entropy);
            near(&alone.policy.log_probs, &together.policy.log_probs);
            let kl = |site: &bupo::models::SiteMeasures| site.policy.divergence.clone().unwrap().kl;
            near(&kl(alone), &kl(together));
            near(&alone.input_entropy, &together.input_entropy);
            near(&alone.cosine, &together.cosine);
            near(&alone.state_norm, &together.state_norm);
            near(&[alone.participation as f32], &[together.participation as f32]);
        }
    }
}

#[test]
fn measures_of_the_first_layers_equal_those_among_all_layers() {
    let decoder = load("qwen3-tied").decoder;
    let sequence = [Sequence { prompt: vec![5, 17, 80], response: vec![9, 4, 60, 2] }];
    let all = &measure(&decoder, &sequence, MeasureOptions::default()).unwrap()[0];
    let some = &measure(&decoder, &sequence, MeasureOptions { layers: Some(2), ..Default::default() }).unwrap()[0];
    assert_eq!((some.sites.len(), some.full.is_some()), (6, false));
    for (all, some) in all.sites.iter().zip(&some.sites) {
        assert_eq!(some.policy, PolicyComparison { divergence: None, ..all.policy.clone() }, "{}", some.site);
        assert_eq!(
            (&some.input_entropy, &some.cosine, some.participation),
            (&all.input_entropy, &all.cosine, all.participation)
        );
    }
    let beyond = MeasureOptions { layers: Some(9), ..Default::default() };
    assert!(measure(&decoder, &sequence, beyond).is_err());
}
