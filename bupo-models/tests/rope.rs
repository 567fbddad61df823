#![allow(clippy::unwrap_used)]

//! Rope scaling, biases and the Mistral family against transformers (`tests/reference/make_rope.py`).

use std::fs;
use std::path::{Path, PathBuf};

use bupo_core::{Norm, PolicySite};
use bupo_models::{GenerateOptions, ModelConfig, ModelFiles, generate, load_model, trace};
use burn::backend::{Flex, NdArray};
use burn::tensor::backend::Backend;
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Frequencies {
    config: serde_json::Value,
    length: usize,
    inv_freq: Vec<f64>,
    attention_factor: f64,
}

#[derive(Deserialize)]
struct Tokens {
    rows: Vec<Vec<u32>>,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
}

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference").join(name)
}

#[test]
fn frequencies_match_transformers() {
    let cases: Vec<Frequencies> = serde_json::from_slice(&fs::read(reference("rope.json")).unwrap()).unwrap();
    assert!(cases.len() > 80);
    for case in cases {
        let config = ModelConfig::from_json(&case.config.to_string()).unwrap();
        let what = format!("{} at {}", case.config, case.length);
        assert!((config.rope.attention_factor() - case.attention_factor).abs() < 1e-9, "{what}");
        let ours = config.rope.frequencies(config.head_dim, case.length);
        assert_eq!(ours.len(), case.inv_freq.len(), "{what}");
        for (ours, expected) in ours.iter().zip(&case.inv_freq) {
            // Rounding of f32 powers.
            assert!((f64::from(*ours) - expected).abs() <= 2e-6 * expected, "{what}: {ours} for {expected}");
        }
    }
}

#[test]
fn logits_and_greedy_tokens_match_transformers() {
    for name in ["llama-linear-biases", "llama-dynamic", "qwen3-yarn-biases", "mistral", "mistral-yarn"] {
        check::<Flex>(name);
        check::<NdArray>(name);
    }
}

fn check<B: Backend>(name: &str) {
    let folder = reference("variants").join(name);
    let decoder = load_model::<B>(&ModelFiles::folder(&folder).unwrap(), &Default::default()).unwrap().decoder;
    let tokens: Tokens = serde_json::from_slice(&fs::read(folder.join("tokens.json")).unwrap()).unwrap();
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    for (index, row) in tokens.rows.iter().enumerate() {
        let traced = trace(&decoder, std::slice::from_ref(row)).unwrap();
        let expected = expected.tensor(&format!("logits.{index}")).unwrap();
        let expected = expected.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let ours: Vec<f32> = traced["logits"].iter::<f32>().collect();
        assert_eq!(ours.len(), expected.len(), "{name}");
        for (ours, expected) in ours.iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-4, "{name} row {index}: {ours} for {expected}");
        }
    }
    // Alone, and next to a row of another length.
    for prompts in [vec![tokens.prompt.clone()], vec![tokens.prompt.clone(), tokens.prompt[..3].to_vec()]] {
        let options = GenerateOptions {
            site: PolicySite::Full,
            norm: Norm::None,
            temperature: 0.0,
            sampling: Default::default(),
            max_new_tokens: tokens.greedy.len(),
            eos_token_ids: Vec::new(),
            seed: 0,
            first_row: 0,
            batch: 2,
        };
        assert_eq!(generate(&decoder, &prompts, &options).unwrap()[0].tokens, tokens.greedy, "{name}");
    }
}
