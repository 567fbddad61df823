//! The forward pass against transformers, and against itself.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, SiteLogits};
use bupo::models::generate::{generate, padded_tokens};
use bupo::models::{Decoder, GenerateOptions, ModelConfig, SaveDtype, SaveOptions, save_checkpoint, trace};
use burn::tensor::Tensor;
use common::{B, FIXTURES, fixture, json, load, load_folder, max_difference, tensors};
use serde::Deserialize;

#[derive(Deserialize)]
struct Generated {
    tokens: Vec<Vec<u32>>,
    log_probs: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct GenerateReference {
    prompts: Vec<Vec<u32>>,
    #[serde(flatten)]
    by_site: BTreeMap<String, Generated>,
}

#[test]
fn every_traced_tensor_matches_transformers() {
    for name in FIXTURES {
        let tokens: Vec<Vec<u32>> = json(&fixture(name).join("tokens.json"));
        let traced = trace(&load(name).decoder, &tokens).unwrap();
        let mut compared = 0;
        for (key, shape, expected) in tensors(&fixture(name).join("expected.safetensors")) {
            if key.starts_with("log_probs.") {
                continue;
            }
            let ours = &traced[&key];
            assert_eq!(ours.shape.to_vec(), shape, "{name} {key}");
            let difference = max_difference(&ours.iter::<f32>().collect::<Vec<_>>(), &expected);
            let tolerance = if key.starts_with("entropy.") { 1e-3 } else { 1e-4 };
            assert!(difference <= tolerance, "{name} {key}: {difference}");
            compared += 1;
        }
        assert_eq!(compared, traced.len(), "{name}: every traced tensor has a reference");
    }
}

#[test]
fn both_rope_layouts_are_read_alike() {
    let read = |file: &str| {
        ModelConfig::from_json(&std::fs::read_to_string(fixture("llama3-scaled").join(file)).unwrap()).unwrap()
    };
    assert_eq!(read("config.json").rope, read("config.rope_parameters.json").rope);
}

#[test]
fn log_probs_match_transformers() {
    for name in FIXTURES {
        let model = load(name);
        let tokens: Vec<Vec<u32>> = json(&fixture(name).join("tokens.json"));
        for (key, _, expected) in tensors(&fixture(name).join("expected.safetensors")) {
            let Some(site) = key.strip_prefix("log_probs.") else { continue };
            let site: PolicySite = site.replace("layer.", "layer:").parse().unwrap();
            let ours = log_probs(&model.decoder, &tokens, site);
            assert!(max_difference(&ours, &expected) <= 1e-4, "{name} {key}");
        }
    }
}

#[test]
fn greedy_generation_of_ragged_prompts_matches_transformers() {
    for name in FIXTURES {
        let model = load(name);
        let reference: GenerateReference = json(&fixture(name).join("generate.json"));
        assert_eq!(reference.by_site.len(), 2);
        for (site, expected) in &reference.by_site {
            let responses = generate(&model.decoder, &reference.prompts, &greedy(site, 12)).unwrap();
            for (response, (tokens, log_probs)) in responses.iter().zip(expected.tokens.iter().zip(&expected.log_probs))
            {
                assert_eq!(&response.tokens, tokens, "{name} {site}");
                assert!(max_difference(&response.log_probs, log_probs) <= 1e-4, "{name} {site}");
            }
        }
    }
}

#[test]
fn contributions_sum_to_the_stream() {
    for name in FIXTURES {
        let decoder = load(name).decoder;
        let tokens: Vec<Vec<u32>> = json(&fixture(name).join("tokens.json"));
        let mut context = decoder.prefill_context(tokens[0].len());
        let mut stream = decoder.stream(padded_tokens(&tokens, &Default::default()), &mut context);
        let mut sum = stream.state();
        for step in stream.by_ref() {
            sum = sum + step.attn.output + step.ffn.output;
        }
        assert!(distance(&sum, &stream.state()) < 1e-5, "{name}");
    }
}

#[test]
fn a_site_state_equals_the_state_of_the_full_pass() {
    let decoder = load("qwen3-tied").decoder;
    let rows: Vec<Vec<u32>> = json(&fixture("qwen3-tied").join("tokens.json"));
    let tokens = padded_tokens::<B>(&rows, &Default::default());
    let mut context = decoder.prefill_context(rows[0].len());
    let steps: Vec<_> = decoder.stream(tokens.clone(), &mut context).collect();
    for step in steps {
        for (site, expected) in [
            (PolicySite::Layer(step.layer), &step.resid_post),
            (PolicySite::Attn(step.layer), &step.attn.output),
            (PolicySite::Ffn(step.layer), &step.ffn.output),
        ] {
            let mut context = decoder.prefill_context(rows[0].len());
            let state = decoder.site_state(tokens.clone(), site, Norm::None, &mut context).unwrap();
            assert_eq!(distance(&state, expected), 0.0, "{site}");
        }
    }
}

#[test]
fn the_last_layer_with_the_final_norm_is_the_full_policy() {
    let decoder = load("qwen3-tied").decoder;
    let rows: Vec<Vec<u32>> = json(&fixture("qwen3-tied").join("tokens.json"));
    let state = |site, norm| {
        let mut context = decoder.prefill_context(rows[0].len());
        decoder.site_state(padded_tokens(&rows, &Default::default()), site, norm, &mut context).unwrap()
    };
    let full = state(PolicySite::Full, Norm::None);
    assert_eq!(distance(&full, &state(PolicySite::Layer(4), Norm::Final)), 0.0);
    assert!(distance(&full, &state(PolicySite::Layer(4), Norm::None)) > 0.1);
}

#[test]
fn cached_and_uncached_decode_agree_for_ragged_rows() {
    for name in FIXTURES {
        let model = load(name);
        let prompts = generate_prompts(name);
        for site in ["full", "layer:2"] {
            let options = GenerateOptions { temperature: 1.0, ..greedy(site, 9) };
            let responses = generate(&model.decoder, &prompts, &options).unwrap();
            for (prompt, response) in prompts.iter().zip(&responses) {
                let row = [&prompt[..], &response.tokens].concat();
                let all = log_probs(&model.decoder, &[row], site.parse().unwrap());
                assert!(max_difference(&all[prompt.len() - 1..], &response.log_probs) < 1e-4, "{name} {site}");
            }
        }
    }
}

#[test]
fn a_row_is_sampled_alike_whatever_else_is_in_the_batch() {
    let model = load("qwen3-tied");
    let prompts = generate_prompts("qwen3-tied");
    // Several end ids make rows leave the batch at different steps.
    let options = GenerateOptions { temperature: 1.0, eos_token_ids: (0..20).collect(), ..greedy("full", 40) };
    let together = generate(&model.decoder, &prompts, &options).unwrap();
    let first = generate(&model.decoder, &prompts[..1], &options).unwrap();
    assert_eq!(together[0].tokens, first[0].tokens);
    let lengths: std::collections::BTreeSet<_> = together.iter().map(|response| response.tokens.len()).collect();
    assert!(lengths.len() > 1, "rows of different lengths: {lengths:?}");
    for response in &together {
        let ends = response.tokens.iter().filter(|token| **token < 20).count();
        assert_eq!(ends, usize::from(response.finished), "nothing follows the first end-of-sequence token");
        assert_eq!(response.tokens.len(), response.log_probs.len());
    }
}

#[test]
fn a_saved_model_loads_identical_and_sharded() {
    let model = load("qwen3-tied");
    let folder = tempfile::tempdir().unwrap();
    for max_shard_bytes in [usize::MAX, 60_000] {
        let place = folder.path().join(max_shard_bytes.to_string());
        let options = SaveOptions { dtype: Some(SaveDtype::F32), max_shard_bytes };
        save_checkpoint(&place, &model.decoder, &model.assets, options).unwrap();
        assert_eq!(place.join("model.safetensors.index.json").exists(), max_shard_bytes != usize::MAX);
        let again = load_folder(&place);
        assert_eq!(again.eos_token_ids, model.eos_token_ids);
        for (a, b) in bupo::models::decoder::named_tensors(&model.decoder)
            .iter()
            .zip(bupo::models::decoder::named_tensors(&again.decoder))
        {
            assert_eq!((&a.name, &a.data), (&b.name, &b.data));
        }
    }
}

#[test]
fn checkpoints_round_trip_bit_for_bit_in_their_own_dtype() {
    for name in common::FIXTURES {
        let folder = tempfile::tempdir().unwrap();
        let model = load(name);
        save_checkpoint(folder.path(), &model.decoder, &model.assets, SaveOptions::default()).unwrap();
        assert_eq!(raw_tensors(folder.path()), raw_tensors(&fixture(name)), "{name}");
        let config = |place: &std::path::Path| std::fs::read(place.join("config.json")).unwrap();
        assert_eq!(config(folder.path()), config(&fixture(name)), "{name}");
    }
}

#[test]
fn a_save_dtype_applies_to_the_weights_and_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let model = load("qwen3-tied");
    let options = SaveOptions { dtype: Some(SaveDtype::Bf16), ..SaveOptions::default() };
    save_checkpoint(folder.path(), &model.decoder, &model.assets, options).unwrap();
    let expected: usize = raw_tensors(&fixture("qwen3-tied")).values().map(|bytes| bytes.len() / 2).sum();
    assert_eq!(raw_tensors(folder.path()).values().map(Vec::len).sum::<usize>(), expected);
    let config: serde_json::Value = json(&folder.path().join("config.json"));
    let dtype = config.get("dtype").or_else(|| config.get("torch_dtype")).unwrap();
    assert_eq!(dtype, "bfloat16");
}

/// Responses generated in parts have the bits of those generated together, for a pass over many tokens of prompts of several lengths
/// as for one over few.
#[test]
fn responses_do_not_depend_on_the_batch() {
    let decoder = load("qwen3-tied").decoder;
    let tokens: Vec<u32> = generate_prompts("qwen3-tied").concat();
    let prompts: Vec<Vec<u32>> =
        (0..9).map(|row| tokens.iter().copied().cycle().skip(row).take(9 + 11 * row).collect()).collect();
    assert!(prompts.iter().flatten().count() > 400);
    let options = GenerateOptions { temperature: 1.0, ..greedy("full", 12) };
    let whole = generate(&decoder, &prompts, &options).unwrap();
    for batch in [1, 2, 5] {
        let parts = generate(&decoder, &prompts, &GenerateOptions { batch, ..options.clone() }).unwrap();
        assert_eq!(parts, whole, "{batch} at once");
    }
    let last = generate(&decoder, &prompts[2..], &GenerateOptions { first_row: 2, ..options }).unwrap();
    assert_eq!(last, whole[2..]);
}

fn raw_tensors(folder: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all = BTreeMap::new();
    for path in files.filter(|path| {
        path.file_name().unwrap().to_str().unwrap().starts_with("model")
            && path.extension() == Some("safetensors".as_ref())
    }) {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        all.extend(file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())));
    }
    all
}

fn generate_prompts(name: &str) -> Vec<Vec<u32>> {
    json::<GenerateReference>(&fixture(name).join("generate.json")).prompts
}

fn greedy(site: &str, max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        site: site.parse().unwrap(),
        norm: Norm::None,
        temperature: 0.0,
        sampling: Default::default(),
        max_new_tokens,
        eos_token_ids: Vec::new(),
        seed: 7,
        first_row: 0,
        batch: 64,
    }
}

/// Log-probs of every next token of rows of equal length.
fn log_probs(decoder: &Decoder<B>, rows: &[Vec<u32>], site: PolicySite) -> Vec<f32> {
    let mut context = decoder.prefill_context(rows[0].len());
    let states = decoder.site_state(padded_tokens(rows, &Default::default()), site, Norm::None, &mut context).unwrap();
    let [batch, seq, hidden] = states.dims();
    let states = states.narrow(1, 0, seq - 1).reshape([batch * (seq - 1), hidden]);
    let targets: Vec<u32> = rows.iter().flat_map(|row| row[1..].to_vec()).collect();
    InternalPolicy::new(states, decoder.unembedding()).token_stats(&targets).log_probs
}

fn distance(a: &Tensor<B, 3>, b: &Tensor<B, 3>) -> f32 {
    (a.clone() - b.clone()).abs().max().into_scalar()
}

#[test]
fn comparisons_agree_with_the_trace_and_token_stats() {
    for name in FIXTURES {
        let tokens: Vec<Vec<u32>> = json(&fixture(name).join("tokens.json"));
        let decoder = load(name).decoder;
        let ids = &tokens[0];
        let mut context = decoder.prefill_context(ids.len());
        let mut stream = decoder.stream(padded_tokens(&tokens[..1], &Default::default()), &mut context);
        let policy = |state: Tensor<B, 3>| InternalPolicy::new(state.squeeze_dim(0), decoder.unembedding());
        let mut policies: Vec<_> = stream.by_ref().map(|step| policy(step.resid_post)).collect();
        let full = policy(decoder.final_norm(stream.state()));
        policies.push(full.clone());
        let sites: Vec<_> = policies.iter().cloned().map(SiteLogits::Own).collect();
        let compared = InternalPolicy::compare(&sites, Some(&full), ids);
        let traced = trace(&decoder, &tokens[..1]).unwrap();
        let vocab = decoder.vocab_size() as f32;
        for (index, site) in compared.iter().enumerate() {
            let key = if index < decoder.num_layers() {
                format!("entropy.layer.{}", index + 1)
            } else {
                "entropy.full".into()
            };
            assert!(
                max_difference(&site.entropy, &traced[&key].iter::<f32>().collect::<Vec<_>>()) < 1e-5,
                "{name} {key}"
            );
            assert!(
                max_difference(&site.log_probs, &policies[index].token_stats(ids).log_probs) < 1e-5,
                "{name} {key}"
            );
            assert!(site.entropy.iter().all(|h| (0.0..=vocab.ln() + 1e-5).contains(h)));
            let divergence = site.divergence.as_ref().unwrap();
            assert!(divergence.kl.iter().chain(&divergence.reverse_kl).all(|kl| *kl >= 0.0));
            assert!(divergence.js.iter().all(|js| (0.0..=std::f32::consts::LN_2).contains(js)));
        }
        let same = compared[decoder.num_layers()].divergence.as_ref().unwrap();
        assert!(same.kl.iter().all(|kl| *kl == 0.0) && same.agrees.iter().all(|agrees| *agrees), "{name}");
    }
}

/// Waiting prompts take the places of finished responses; each response equals the one generated alone.
#[test]
fn continuous_batching_equals_generation_one_by_one() {
    let decoder = load("qwen3-tied").decoder;
    let vocab = decoder.vocab_size() as u32;
    // Groups of equal prompts of several lengths, and enough end-of-sequence ids that responses differ in length.
    let prompts: Vec<Vec<u32>> =
        (0..24_u32).map(|row| (0..1 + row / 4 * 3).map(|i| (i * 31 + row / 4 * 7) % vocab).collect()).collect();
    let options = GenerateOptions {
        site: PolicySite::Full,
        norm: Norm::None,
        temperature: 1.0,
        sampling: Default::default(),
        max_new_tokens: 40,
        eos_token_ids: (0..vocab / 16).collect(),
        seed: 5,
        first_row: 0,
        batch: 1,
    };
    let alone = generate(&decoder, &prompts, &options).unwrap();
    let lengths: Vec<usize> = alone.iter().map(|response| response.tokens.len()).collect();
    assert!(lengths.iter().min() < lengths.iter().max() && alone.iter().any(|response| response.finished));
    for batch in [2, 5, 8, 24, 100] {
        let together = generate(&decoder, &prompts, &GenerateOptions { batch, ..options.clone() }).unwrap();
        for (a, b) in alone.iter().zip(&together) {
            assert_eq!((&a.tokens, a.finished), (&b.tokens, b.finished), "batch {batch}");
            assert!(max_difference(&a.log_probs, &b.log_probs) < 1e-5, "batch {batch}");
        }
    }
    // The same on a backend whose KV cache is tensors.
    let files = bupo::models::ModelFiles::folder(&fixture("qwen3-tied")).unwrap();
    let other = bupo::models::load_model::<burn::backend::NdArray>(&files, &Default::default()).unwrap().decoder;
    let options = GenerateOptions { batch: 5, ..options };
    for (a, b) in alone.iter().zip(generate(&other, &prompts, &options).unwrap()) {
        assert_eq!(a.tokens, b.tokens, "ndarray");
    }
}
