//! Tuned lenses: policies, fits and files, against transformers in f64.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bupo::core::{CoreError, Norm, PolicySite, ResidualDecoder};
use bupo::models::generate::padded_tokens;
use bupo::models::{
    Decoder, LensOptions, MeasureOptions, ModelConfig, ModelError, ModelFiles, Sequence, SequenceBatch, TunedLens,
    lens, measure,
};
use bupo::rl::{TuneLensConfig, tune_lens};
use burn::module::ParamId;
use common::{B, fixture, json, load, tensors};
use serde::Deserialize;

const MODEL: &str = "qwen3-tied";

#[derive(Deserialize)]
struct Case {
    prompt: Vec<u32>,
    response: Vec<u32>,
    losses: Vec<f64>,
    entropy: Vec<Vec<f64>>,
    reverse_kl: Vec<Vec<f64>>,
    gradients: BTreeMap<String, Vec<f64>>,
}

impl Case {
    fn read() -> (Self, Sequence) {
        let case: Self = json(&fixture("tuned_lens.json"));
        let sequence = Sequence { prompt: case.prompt.clone(), response: case.response.clone() };
        (case, sequence)
    }
}

fn config() -> ModelConfig {
    ModelConfig::from_json(&fs::read_to_string(fixture(MODEL).join("config.json")).unwrap()).unwrap()
}

fn read(path: &Path) -> Result<TunedLens, ModelError> {
    TunedLens::read(Some(path), &ModelFiles::folder(&fixture(MODEL)).unwrap(), &config())
}

fn with_lens() -> Decoder<B> {
    load(MODEL).decoder.with_tuned_lens(&read(&fixture("tuned_lens.safetensors")).unwrap())
}

fn close(ours: impl IntoIterator<Item = f64>, expected: &[f64], what: &str) {
    let ours: Vec<f64> = ours.into_iter().collect();
    assert_eq!(ours.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0_f64, |size, value| size.max(value.abs()));
    for (ours, expected) in ours.iter().zip(expected) {
        assert!((ours - expected).abs() <= 1e-5 * (1.0 + size), "{what}: {ours} for {expected}");
    }
}

#[test]
fn policies_match_transformers() {
    let (case, sequence) = Case::read();
    let options = MeasureOptions { norm: Norm::Tuned, layers: None };
    let measured = measure(&with_lens(), &[sequence], options).unwrap().remove(0);
    let mut checked = 0;
    for site in &measured.sites {
        let PolicySite::Layer(layer) = site.site else { continue };
        let divergence = site.policy.divergence.as_ref().unwrap();
        let Some(entropy) = case.entropy.get(layer - 1) else {
            assert!(divergence.reverse_kl.iter().all(|kl| *kl < 1e-6), "the last layer's policy is the full policy");
            continue;
        };
        close(site.policy.entropy.iter().copied().map(f64::from), entropy, &format!("entropy of layer {layer}"));
        close(divergence.reverse_kl.iter().copied().map(f64::from), &case.reverse_kl[layer - 1], "KL");
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn losses_and_their_gradients_match_transformers() {
    let (case, sequence) = Case::read();
    let decoder = with_lens().train_tuned_lens();
    let mut gradients = decoder.gradients();
    let tokens: Vec<u32> = (0..sequence.response.len() as u32).collect();
    let losses = decoder.tuned_lens_losses(&SequenceBatch::padded([&sequence]), &tokens, &mut gradients).unwrap();
    close(losses, &case.losses, "losses");
    let ids: Vec<u64> = gradients.lengths().into_keys().collect();
    assert_eq!(ids.len(), case.gradients.len(), "the model's own parameters have none");
    // Ids are in the order of the maps, each with its matrix first.
    for (place, id) in ids.into_iter().enumerate() {
        let name = format!("{}.{}", place / 2, if place % 2 == 0 { "weight" } else { "bias" });
        let ours: Vec<f32> = gradients.take(ParamId::from(id)).unwrap().into_data().to_vec().unwrap();
        close(ours.into_iter().map(f64::from), &case.gradients[&name], &name);
    }
}

#[test]
fn losses_are_of_the_given_tokens() {
    let (case, sequence) = Case::read();
    let decoder = with_lens();
    let losses =
        decoder.tuned_lens_losses(&SequenceBatch::padded([&sequence]), &[1, 4], &mut decoder.gradients()).unwrap();
    for (layer, loss) in losses.iter().enumerate().skip(1) {
        let kls = &case.reverse_kl[layer - 1];
        close([*loss], &[(kls[1] + kls[4]) / 2.0], &format!("layer {layer}"));
    }
}

#[test]
fn a_lens_that_changes_nothing_is_the_logit_lens() {
    let (_, sequence) = Case::read();
    let decoder = load(MODEL).decoder.with_tuned_lens(&TunedLens::identity(&config()));
    let measured =
        |norm| measure(&decoder, std::slice::from_ref(&sequence), MeasureOptions { norm, layers: None }).unwrap();
    assert_eq!(measured(Norm::Tuned), measured(Norm::Final));
    let options = |norm| LensOptions { norm, top: 3, ..LensOptions::default() };
    let read = |norm| lens(&decoder, &sequence.prompt, &options(norm)).unwrap();
    assert_eq!(read(Norm::Tuned), read(Norm::Final));
}

#[test]
fn without_a_lens_the_norm_is_refused() {
    let decoder = load(MODEL).decoder;
    let (_, sequence) = Case::read();
    let tokens = || padded_tokens(std::slice::from_ref(&sequence.prompt), &Default::default());
    let mut context = decoder.prefill_context(sequence.prompt.len());
    let state = decoder.site_state(tokens(), PolicySite::Layer(2), Norm::Tuned, &mut context);
    assert_eq!(state.err(), Some(CoreError::NoTunedLens));
    let saved = decoder.forward_train(tokens(), context, PolicySite::Layer(2), Norm::Tuned, false);
    assert_eq!(saved.err(), Some(CoreError::NoTunedLens));
    let files = ModelFiles::folder(&fixture(MODEL)).unwrap();
    let error = TunedLens::read(None, &files, &config()).unwrap_err().to_string();
    assert!(error.contains("bupo tune-lens"), "{error}");
}

#[test]
fn files_are_read_as_they_are_written_and_checked_against_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lens.safetensors");
    let lens = read(&fixture("tuned_lens.safetensors")).unwrap();
    lens.write(&path).unwrap();
    assert_eq!(read(&path).unwrap(), lens);
    let sorted = |path: &Path| {
        let mut tensors = tensors(path);
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    assert_eq!(sorted(&path), sorted(&fixture("tuned_lens.safetensors")));
    let refused = |config: &ModelConfig, expected: &str| {
        let files = ModelFiles::folder(&fixture(MODEL)).unwrap();
        let error = TunedLens::read(Some(&path), &files, config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let other = |change: fn(&mut ModelConfig)| {
        let mut config = config();
        change(&mut config);
        config
    };
    refused(&other(|config| config.num_hidden_layers = 5), "10");
    refused(&other(|config| config.hidden_size = 44), "[44, 44]");
    TunedLens::identity(&other(|config| config.hidden_size = 8)).write(&path).unwrap();
    refused(&config(), "its own tuned lens");
    fs::write(&path, b"not a lens").unwrap();
    assert!(read(&path).is_err());
}

#[test]
fn a_fit_comes_closer_to_the_full_policy_than_the_logit_lens() {
    let decoder = load(MODEL).decoder;
    let row = |seed: usize| Sequence {
        prompt: vec![1, (3 + seed * 17 % 140) as u32],
        response: (0..12).map(|place| (3 + (seed * 31 + place * 7) % 140) as u32).collect(),
    };
    let responses: Vec<Sequence> = (0..32).map(row).collect();
    let settings = TuneLensConfig { seed: 0, steps: 60, batch: 8, tokens: 64, learning_rate: 1e-3 };
    let mut losses = Vec::new();
    let (lens, fits) =
        tune_lens(decoder.clone(), &config(), &responses, &settings, |_, loss| losses.push(loss)).unwrap();
    assert_eq!(fits.iter().map(|fit| fit.layer).collect::<Vec<_>>(), [1, 2, 3]);
    for fit in &fits {
        assert!(fit.tuned_lens < 0.9 * fit.logit_lens, "{fit:?}");
    }
    assert!(losses.len() == 60 && losses[59] < losses[0], "{losses:?}");
    let again = tune_lens(decoder.clone(), &config(), &responses, &settings, |_, _| {}).unwrap();
    assert_eq!(again, (lens, fits), "the same at every run");
    let error = tune_lens(decoder, &config(), &responses[..7], &settings, |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("7 responses"), "{error}");
}
