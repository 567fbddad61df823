//! A small model computed on a device, to be compared with another device's numbers: everything that training rests on.

use std::collections::BTreeMap;

use bupo_core::{Norm, PolicySite};
use bupo_models::decoder::{ParamSource, RandomInit, named_tensors};
use bupo_models::{Decoder, GenerateOptions, ModelConfig, ModelError, Sequence, generate};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::RlError;
use crate::batch::{PolicySpec, kl_to_full, response_stats};
use crate::objective::Objective;
use crate::optimizer::{AdamWSettings, DecoderOptimizer};
use crate::update::{LossSpec, Sample, update};

/// Grouped heads, head norms, widths that are no powers of two, a vocabulary that is no multiple of anything.
const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 80, "vocab_size": 211, "tie_word_embeddings": false}"#;
const SITES: [(PolicySite, Norm); 5] = [
    (PolicySite::Full, Norm::None),
    (PolicySite::Layer(1), Norm::None),
    (PolicySite::Layer(2), Norm::Final),
    (PolicySite::Attn(2), Norm::None),
    (PolicySite::Ffn(3), Norm::Final),
];
const SEED: u64 = 3;

/// Numbers by what they are of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Computed(BTreeMap<&'static str, Vec<f64>>);

/// How far two devices' numbers are apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What the numbers are of.
    pub what: &'static str,
    /// The largest distance, over the largest number where that is above 1; infinite where one is no number.
    pub largest: f64,
    /// What rounding may come to in f32.
    pub allowed: f64,
}

/// What is compared, and what rounding may come to. Sampled tokens are the same, for the same random numbers: that rounding
/// takes another one has odds of a thousand to one here.
const ALLOWED: [(&str, f64); 7] = [
    ("log-probs", 1e-4),
    ("entropies", 1e-4),
    ("KL(layer || full)", 1e-4),
    ("sampled tokens", 0.0),
    ("loss", 1e-4),
    ("gradient norm", 1e-3),
    ("weights after two updates", 1e-4),
];

impl Computed {
    /// Computes log-probs, entropies and divergences at several sites, samples, and updates the model twice: a layer's policy, then
    /// the full one.
    ///
    /// # Errors
    /// If something is not finite.
    pub fn on<B: Backend>(device: &B::Device) -> Result<Self, RlError> {
        let config = ModelConfig::from_json(CONFIG)?;
        let mut decoder: Decoder<B> = Decoder::build(&config, &mut Pronounced(RandomInit::new(SEED, device.clone())))?;
        let mut computed = Self::default();
        let sequences = sequences(config.vocab_size);
        for (site, norm) in SITES {
            let spec = PolicySpec { site, norm, temperature: 0.9 };
            for stats in response_stats(&decoder, &sequences, &spec, 64)? {
                computed.add("log-probs", &stats.log_probs);
                computed.add("entropies", &stats.entropy);
            }
            let kl = kl_to_full(&decoder, &sequences, &spec, 64)?;
            computed.add("KL(layer || full)", &[kl as f32]);
        }
        let prompts: Vec<Vec<u32>> = sequences.iter().map(|sequence| sequence.prompt.clone()).collect();
        for (site, norm) in [SITES[0], SITES[2]] {
            let options = GenerateOptions {
                site,
                norm,
                temperature: 0.7,
                max_new_tokens: 8,
                eos_token_ids: vec![7],
                seed: SEED,
                first_row: 0,
                batch: 2,
            };
            for response in generate(&decoder, &prompts, &options)? {
                computed.add("sampled tokens", &response.tokens.iter().map(|token| *token as f32).collect::<Vec<_>>());
                computed.add("log-probs", &response.log_probs);
            }
        }
        let objective = Objective { kl_coefficient: 0.1, entropy_coefficient: 0.01, ..Objective::default() };
        // Where a gradient is rounding alone, AdamW takes a whole step in the direction of its sign unless epsilon is larger.
        let settings = AdamWSettings { learning_rate: 1e-2, epsilon: 1e-3, ..AdamWSettings::default() };
        let mut optimizer = DecoderOptimizer::new(settings);
        for (site, norm) in [SITES[2], SITES[0]] {
            let policy = PolicySpec { site, norm, temperature: 1.0 };
            let old = response_stats(&decoder, &sequences, &policy, 64)?;
            let samples: Vec<Sample> = sequences
                .iter()
                .zip(old)
                .enumerate()
                .map(|(index, (sequence, old))| Sample {
                    sequence: sequence.clone(),
                    advantage: [1.0, -0.5, 0.25][index % 3],
                    // Ratios within the clip, beyond it, and none.
                    old_log_probs: Some(old.log_probs.iter().map(|log_prob| log_prob - 0.15 * index as f32).collect()),
                    ref_log_probs: Some(old.log_probs.iter().map(|log_prob| log_prob + 0.1).collect()),
                })
                .collect();
            let loss = LossSpec { policy, objective, norm_length: None, max_tokens_per_batch: 32, recompute: false };
            let stats = update(&mut decoder, &mut optimizer, &samples, &loss)?;
            computed.add("loss", &[stats.loss as f32]);
            computed.add("gradient norm", &[stats.grad_norm as f32]);
        }
        for tensor in named_tensors(&decoder) {
            computed.add("weights after two updates", &tensor.data.iter::<f32>().collect::<Vec<_>>());
        }
        Ok(computed)
    }

    /// How far another device's numbers are from these.
    pub fn compare(&self, other: &Self) -> Vec<Difference> {
        let values = |computed: &Self, what| computed.0.get(what).cloned().unwrap_or_default();
        ALLOWED
            .into_iter()
            .map(|(what, allowed)| {
                let (ours, theirs) = (values(self, what), values(other, what));
                let size = ours.iter().fold(1.0_f64, |size, value| size.max(value.abs()));
                let distance = |(a, b): (&f64, &f64)| {
                    let distance = (a - b).abs() / size;
                    if distance.is_finite() { distance } else { f64::INFINITY }
                };
                let same = ours.len() == theirs.len() && !ours.is_empty();
                let largest =
                    if same { ours.iter().zip(&theirs).map(distance).fold(0.0, f64::max) } else { f64::INFINITY };
                Difference { what, largest, allowed }
            })
            .collect()
    }

    fn add(&mut self, what: &'static str, values: &[f32]) {
        self.0.entry(what).or_default().extend(values.iter().copied().map(f64::from));
    }
}

impl Difference {
    /// Whether rounding explains it.
    pub fn is_rounding(&self) -> bool {
        self.largest <= self.allowed
    }
}

/// Fresh weights with policies that prefer some tokens to others; 8 times a number is exact on every device.
struct Pronounced<B: Backend>(RandomInit<B>);

impl<B: Backend> ParamSource<B> for Pronounced<B> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<B, D>, ModelError> {
        let fresh = self.0.tensor(name, shape)?;
        Ok(if name.ends_with("norm.weight") { fresh } else { fresh * 8.0 })
    }
}

/// Prompts and responses of several lengths.
fn sequences(vocab: usize) -> Vec<Sequence> {
    let tokens = |start: usize, count: usize| (start..start + count).map(|i| (i * 7919 % vocab) as u32).collect();
    [(5, 6), (9, 3), (2, 8)]
        .into_iter()
        .enumerate()
        .map(|(index, (prompt, response))| Sequence {
            prompt: tokens(100 * index, prompt),
            response: tokens(100 * index + 50, response),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_apart_is_told_apart() {
        let mut one = Computed::default();
        ALLOWED.iter().for_each(|(what, _)| one.add(what, &[1.0, 20.0]));
        assert!(one.compare(&one).iter().all(|difference| difference.largest == 0.0 && difference.is_rounding()));
        for wrong in [vec![1.0, 20.1], vec![1.0, f32::NAN], vec![1.0], vec![]] {
            let mut other = one.clone();
            other.0.insert("log-probs", wrong.iter().copied().map(f64::from).collect());
            let apart: Vec<&str> =
                one.compare(&other).iter().filter(|found| !found.is_rounding()).map(|found| found.what).collect();
            assert_eq!(apart, ["log-probs"], "{wrong:?}");
        }
    }
}
