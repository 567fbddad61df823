//! Layers in bf16 are as close to f32 as those of transformers.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::kernels::{bf16_unit, vector_units};
use bupo::core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, TokenDerivatives};
use bupo::models::decoder::{Gradients, named_tensors};
use bupo::models::{
    ComputeDtype, Decoder, DtypeChoice, GenerateOptions, ModelFiles, Sequence, SequenceBatch, generate,
};
use bupo::rl::{
    AdamWSettings, DecoderOptimizer, LossSpec, Objective, PolicySpec, Sample, UpdateStats, response_stats, update,
};
use burn::backend::NdArray;
use common::{B, FIXTURES, fixture, json, load};

/// The allowed ratio of our error to that of transformers: they do not round in all the same places.
const ALLOWED: f64 = 1.2;

/// Each row as a response to its first token.
fn sequences(name: &str) -> Vec<Sequence> {
    let rows: Vec<Vec<u32>> = json(&fixture(name).join("tokens.json"));
    rows.iter().map(|ids| Sequence { prompt: ids[..1].to_vec(), response: ids[1..].to_vec() }).collect()
}

fn decoder(name: &str, dtype: ComputeDtype) -> Decoder<B> {
    load(name).decoder.with_compute_dtype(dtype)
}

fn log_probs(decoder: &Decoder<B>, sequences: &[Sequence], site: PolicySite) -> Vec<f64> {
    let spec = PolicySpec { site, norm: Norm::None, temperature: 1.0 };
    let stats = response_stats(decoder, sequences, &spec, usize::MAX).unwrap();
    stats.iter().flat_map(|stats| stats.log_probs.iter().copied().map(f64::from)).collect()
}

/// The gradient of the mean log-prob with respect to the layers' projections.
fn gradient(decoder: &Decoder<B>, sequences: &[Sequence], site: PolicySite) -> Vec<f64> {
    let batch = SequenceBatch::padded(sequences);
    let saved = decoder
        .forward_train(batch.tokens(&decoder.device()), decoder.batch_context(&batch), site, Norm::None, false)
        .unwrap();
    let policy = InternalPolicy::new(batch.gather_states(saved.states.clone()), decoder.unembedding());
    let count = batch.targets.len();
    let derivatives = TokenDerivatives { log_probs: vec![1.0 / count as f32; count], entropy: None };
    let back = policy.forward(&batch.targets).backward(&derivatives);
    let mut gradients = Gradients::new();
    decoder.backward(saved, batch.scatter_grad(back.states), &mut gradients);
    let projections = named_tensors(decoder).into_iter().filter(|tensor| tensor.name.ends_with("proj.weight"));
    projections
        .filter_map(|tensor| gradients.take(tensor.id))
        .flat_map(|g| g.into_data().iter::<f64>().collect::<Vec<_>>())
        .collect()
}

#[test]
fn log_probs_and_gradients_are_as_close_to_f32_as_those_of_transformers() {
    let reference: BTreeMap<String, BTreeMap<String, f64>> = json(&fixture("bf16.json"));
    for name in FIXTURES {
        let [exact, rounded] = [ComputeDtype::F32, ComputeDtype::Bf16].map(|dtype| decoder(name, dtype));
        let sequences = sequences(name);
        // Without a unit for bf16 only weights are rounded on the CPU, which these are already.
        let exact_in_bf16 = name.ends_with("bf16") && bf16_unit::<B>(&Default::default()).is_none();
        for (key, site) in [("full", PolicySite::Full), ("layer.2", PolicySite::Layer(2))] {
            let (a, b) = (log_probs(&exact, &sequences, site), log_probs(&rounded, &sequences, site));
            let squares: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
            let ours = (squares / a.len() as f64).sqrt();
            let theirs = reference[name][&format!("log_probs.{key}")];
            println!("{name} {key}: log-probs {ours:.4} for {theirs:.4}");
            assert!((ours > 0.0 || exact_in_bf16) && ours <= ALLOWED * theirs, "{name} {key}: {ours} for {theirs}");

            let (g, h) = (gradient(&exact, &sequences, site), gradient(&rounded, &sequences, site));
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            let ours = norm(&mut g.iter().zip(&h).map(|(g, h)| g - h)) / norm(&mut g.iter().copied());
            let theirs = reference[name][&format!("gradient.{key}")];
            println!("{name} {key}: gradient {ours:.4} for {theirs:.4}");
            assert!(
                (ours > 0.0 || exact_in_bf16) && ours <= ALLOWED * theirs,
                "{name} {key}: gradient {ours} for {theirs}"
            );
        }
    }
}

#[test]
fn sampled_log_probs_match_those_of_training() {
    for name in FIXTURES {
        let decoder = decoder(name, ComputeDtype::Bf16);
        // More prompts than rows at a time, of several lengths; then a single one.
        let rows = sequences(name);
        let prompts: Vec<Vec<u32>> = (0..5).map(|i| rows[0].response[..2 + 2 * i].to_vec()).collect();
        for prompts in [&prompts[..], &prompts[..1]] {
            let options = GenerateOptions {
                site: PolicySite::Full,
                norm: Norm::None,
                temperature: 1.0,
                sampling: Default::default(),
                max_new_tokens: 20,
                eos_token_ids: Vec::new(),
                seed: 5,
                first_row: 0,
                batch: 3,
            };
            let responses = generate(&decoder, prompts, &options).unwrap();
            let sequences: Vec<Sequence> = prompts
                .iter()
                .zip(&responses)
                .map(|(prompt, response)| Sequence { prompt: prompt.clone(), response: response.tokens.clone() })
                .collect();
            let again = log_probs(&decoder, &sequences, PolicySite::Full);
            let sampled = responses.iter().flat_map(|response| response.log_probs.iter().copied().map(f64::from));
            let gaps: Vec<f64> = sampled.zip(again).map(|(a, b)| (a - b).abs()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            println!("{name}: gap {mean:.4} on the mean, {:.4} at most", gaps.iter().copied().fold(0.0, f64::max));
            assert!(mean < 0.01, "{name}: {mean}");
        }
    }
}

/// Steps below the precision of bf16 add up in the parameters.
#[test]
fn parameters_and_moments_are_f32() {
    let mut decoder = decoder("qwen2-untied-sharded-bf16", ComputeDtype::Bf16);
    let before = named_tensors(&decoder);
    let samples: Vec<Sample> = sequences("qwen2-untied-sharded-bf16")
        .into_iter()
        .enumerate()
        .map(|(index, sequence)| Sample {
            sequence,
            advantage: if index % 2 == 0 { 1.0 } else { -1.0 },
            critic: None,
            old_log_probs: None,
            ref_log_probs: None,
            sampling: None,
            chosen: Default::default(),
            terms: Vec::new(),
        })
        .collect();
    let loss = LossSpec {
        policy: PolicySpec { site: PolicySite::Full, norm: Norm::None, temperature: 1.0 },
        objective: Objective::default(),
        norm_length: None,
        max_tokens_per_batch: 64,
        recompute: true,
        correction: None,
        terms: Vec::new(),
    };
    let settings = AdamWSettings { learning_rate: 1e-6, weight_decay: 0.0, ..AdamWSettings::default() };
    let mut optimizer = DecoderOptimizer::new(settings);
    for _ in 0..3 {
        let stats: UpdateStats = update(&mut decoder, &mut optimizer, &samples, &loss).unwrap();
        assert!(!stats.skipped && stats.grad_norm > 0.0);
    }
    for (before, after) in before.iter().zip(named_tensors(&decoder)) {
        let moved: Vec<f64> =
            before.data.iter::<f64>().zip(after.data.iter::<f64>()).map(|(a, b)| (a - b).abs()).collect();
        let largest = moved.iter().copied().fold(0.0, f64::max);
        // Three steps of about 1e-6; bf16 numbers near 1 are 4e-3 apart.
        assert!(largest > 1e-6 && largest < 4e-6, "{}: {largest:e}", after.name);
    }
    for moments in optimizer.moments().values() {
        assert_eq!(moments.first.dtype(), bupo::rl::MomentDtype::F32);
        assert_eq!(moments.second.dtype(), bupo::rl::MomentDtype::F32);
    }
}

#[test]
fn auto_chooses_a_dtype_that_the_device_has_hardware_for() {
    let bf16 = ModelFiles::folder(&fixture("qwen2-untied-sharded-bf16")).unwrap();
    let cpu = Default::default();
    // Every CPU supports bf16; `auto` chooses it where a unit makes it faster, for weights that are in it.
    let faster = bf16_unit::<B>(&cpu).is_some();
    let expected = if faster { ComputeDtype::Bf16 } else { ComputeDtype::F32 };
    assert_eq!(DtypeChoice::Auto.for_model::<B>(&bf16, &cpu).unwrap(), expected);
    let f32 = ModelFiles::folder(&fixture("qwen3-tied")).unwrap();
    assert_eq!(DtypeChoice::Auto.for_model::<B>(&f32, &cpu).unwrap(), ComputeDtype::F32);
    assert_eq!(DtypeChoice::Bf16.for_model::<B>(&bf16, &cpu).unwrap(), ComputeDtype::Bf16);
    let error = DtypeChoice::Bf16.for_model::<NdArray>(&bf16, &Default::default()).unwrap_err().to_string();
    assert!(error.contains("does not compute in bf16") && error.contains("f32"), "{error}");
    for (text, expected) in [("f16", "range is too small"), ("int8", "auto, f32 or bf16")] {
        let error = text.parse::<DtypeChoice>().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

/// An update in one micro-batch and in several, with layers saved and recomputed, and weights packed once or for every product.
#[test]
fn saved_and_recomputed_layers_give_the_same_gradients() {
    let name = "qwen3-tied";
    let decoder = decoder(name, ComputeDtype::Bf16);
    let batch = SequenceBatch::padded(&sequences(name));
    let gradients = |decoder: &Decoder<B>, recompute: bool| {
        let tokens = batch.tokens(&decoder.device());
        let saved = decoder
            .forward_train(tokens, decoder.batch_context(&batch), PolicySite::Full, Norm::None, recompute)
            .unwrap();
        let d_states = saved.states.clone() * 0.25;
        let mut gradients = Gradients::new();
        decoder.backward(saved, d_states, &mut gradients);
        let of = |id| gradients.take(id).map(|gradient| gradient.into_data());
        named_tensors(decoder).into_iter().map(|tensor| tensor.id).map(of).collect::<Vec<_>>()
    };
    let expected = gradients(&decoder, false);
    assert!(expected.iter().flatten().count() > 10);
    assert!(gradients(&decoder, true) == expected, "recomputed");
    assert!(gradients(&decoder.for_many_rows(decoder.num_layers()), false) == expected, "packed");
    let cast = decoder.clone().cast_weights();
    let some = sequences(name);
    assert_eq!(log_probs(&cast, &some, PolicySite::Full), log_probs(&decoder, &some, PolicySite::Full), "cast");
}

/// Runs the other tests of this file with products on the AVX512-BF16 unit, where there is one.
#[test]
fn products_on_the_unit_for_bf16_are_as_close() {
    const UNITS: &str = "BUPO_VECTOR_UNITS";
    if std::env::var_os(UNITS).is_some() || !vector_units().contains(&"avx512_bf16") {
        return;
    }
    let tests = std::process::Command::new(std::env::current_exe().unwrap()).env(UNITS, "avx512bf16").output().unwrap();
    let said = String::from_utf8_lossy(&tests.stdout).into_owned();
    assert!(
        tests.status.success() && said.contains("auto_chooses_a_dtype_that_the_device_has_hardware_for ... ok"),
        "{said}"
    );
}
