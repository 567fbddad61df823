//! A small model computed on a device, to be compared with another device's numbers: everything that training rests on.

use std::collections::BTreeMap;

use bupo_core::{Norm, PolicySite};
use bupo_models::decoder::{ParamSource, RandomInit, named_tensors};
use bupo_models::{ComputeDtype, Decoder, GenerateOptions, ModelConfig, ModelError, Response, Sequence, generate};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::RlError;
use crate::loss::Objective;
use crate::update::{
    AdamWSettings, DecoderOptimizer, LossSpec, PolicySpec, Sample, kl_to_full, response_stats, update,
};

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
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceNumbers {
    precision: Precision,
    numbers: BTreeMap<&'static str, Vec<f64>>,
}

/// How far two devices' numbers are apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What the numbers are of.
    pub what: &'static str,
    /// The largest distance, over the largest number where that is above 1; infinite where one is no number.
    pub largest: f64,
    /// What rounding may come to.
    pub allowed: f64,
}

/// How coarse the numbers are that products are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    F32,
    /// f32 with the 11 bits that NVIDIA's units for products read of it.
    Tf32,
    Bf16,
}

/// What is compared, and what rounding may come to in f32 and in bf16; in TF32 to a quarter of that, for it has more bits. Sampled tokens
/// are the same in f32, for the same random numbers: that rounding takes another one has odds of a thousand to one here. Otherwise they
/// need not be. Nor need weights: where a gradient is rounding alone, AdamW takes a whole step all the same.
const ALLOWED: [(&str, f64, Option<f64>); 10] = [
    ("log-probs", 1e-4, Some(2e-2)),
    ("entropies", 1e-4, Some(2e-2)),
    ("KL(layer || full)", 1e-4, Some(2e-2)),
    (SAMPLED, 0.0, None),
    ("sampled tokens' log-probs", 1e-4, None),
    (GAP, 1e-4, Some(2e-2)),
    ("loss", 1e-4, Some(2e-2)),
    ("gradient norm", 1e-3, Some(2e-2)),
    (MOMENTS, 1e-4, Some(5e-2)),
    ("weights after two updates", 1e-4, None),
];
const SAMPLED: &str = "sampled tokens";
const GAP: &str = "log-probs when sampled less when trained";
const MOMENTS: &str = "gradients' means";

impl Precision {
    fn of<B: Backend>(dtype: ComputeDtype, device: &B::Device) -> Self {
        match dtype {
            ComputeDtype::Bf16 => Self::Bf16,
            ComputeDtype::F32 if B::name(device).contains("cuda") => Self::Tf32,
            ComputeDtype::F32 => Self::F32,
        }
    }

    /// What is compared, and how far it may be apart.
    fn allowed(self) -> impl Iterator<Item = (&'static str, f64)> {
        ALLOWED.into_iter().filter_map(move |(what, in_f32, in_bf16)| match self {
            Self::F32 => Some((what, in_f32)),
            Self::Tf32 => Some((what, in_bf16? / 4.0)),
            Self::Bf16 => Some((what, in_bf16?)),
        })
    }
}

impl DeviceNumbers {
    /// Computes log-probs, entropies and divergences at several sites, samples, and updates the model twice: a layer's policy, then
    /// the full one.
    ///
    /// # Errors
    /// If something is not finite.
    pub fn on<B: Backend>(dtype: ComputeDtype, device: &B::Device) -> Result<Self, RlError> {
        let config = ModelConfig::from_json(CONFIG)?;
        let decoder: Decoder<B> = Decoder::build(&config, &mut Pronounced(RandomInit::new(SEED, device.clone())))?;
        let mut decoder = decoder.with_compute_dtype(dtype);
        let mut computed = Self { precision: Precision::of::<B>(dtype, device), numbers: BTreeMap::new() };
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
        for ((site, norm), temperature) in [(SITES[0], 0.7), (SITES[2], 0.7), (SITES[0], 0.0)] {
            let options = GenerateOptions {
                site,
                norm,
                temperature,
                sampling: Default::default(),
                max_new_tokens: 8,
                eos_token_ids: vec![7],
                seed: SEED,
                first_row: 0,
                batch: 2,
            };
            let responses = generate(&decoder, &prompts, &options)?;
            let answered = |(prompt, response): (&Vec<u32>, &Response)| Sequence {
                prompt: prompt.clone(),
                response: response.tokens.clone(),
            };
            let answered: Vec<Sequence> = prompts.iter().zip(&responses).map(answered).collect();
            let temperature = if temperature == 0.0 { 1.0 } else { temperature };
            let spec = PolicySpec { site, norm, temperature };
            for (response, again) in responses.iter().zip(response_stats(&decoder, &answered, &spec, 64)?) {
                let tokens: Vec<f32> = response.tokens.iter().map(|token| *token as f32).collect();
                let gaps: Vec<f32> = response.log_probs.iter().zip(&again.log_probs).map(|(a, b)| a - b).collect();
                computed.add(SAMPLED, &tokens);
                computed.add("sampled tokens' log-probs", &response.log_probs);
                let largest = gaps.iter().fold(0.0_f32, |largest, gap| largest.max(gap.abs()));
                computed.add(GAP, &[largest]);
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
        for moments in optimizer.moments().values() {
            // Clipped to a norm of 1 and a tenth of that: made as large as other numbers are.
            let means: Vec<f32> = moments.first.to_data().iter::<f32>().map(|mean| mean * 100.0).collect();
            computed.add(MOMENTS, &means);
        }
        for tensor in named_tensors(&decoder) {
            computed.add("weights after two updates", &tensor.data.iter::<f32>().collect::<Vec<_>>());
        }
        Ok(computed)
    }

    /// How far another device's numbers are from these, and how far the dtype of those lets them be.
    pub fn compare(&self, other: &Self) -> Vec<Difference> {
        let values = |computed: &Self, what| computed.numbers.get(what).cloned().unwrap_or_default();
        let apart = other.precision.allowed().map(|(what, allowed)| {
            let (ours, theirs) = (values(self, what), values(other, what));
            let size = ours.iter().fold(1.0_f64, |size, value| size.max(value.abs()));
            let distance = |(a, b): (&f64, &f64)| {
                let distance = (a - b).abs() / size;
                if distance.is_finite() { distance } else { f64::INFINITY }
            };
            let same = ours.len() == theirs.len() && !ours.is_empty();
            let largest = if same { ours.iter().zip(&theirs).map(distance).fold(0.0, f64::max) } else { f64::INFINITY };
            Difference { what, largest, allowed }
        });
        apart.collect()
    }

    fn add(&mut self, what: &'static str, values: &[f32]) {
        self.numbers.entry(what).or_default().extend(values.iter().copied().map(f64::from));
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
        let mut one = DeviceNumbers { precision: Precision::F32, numbers: BTreeMap::new() };
        ALLOWED.iter().for_each(|(what, ..)| one.add(what, &[1.0, 20.0]));
        assert!(one.compare(&one).iter().all(|difference| difference.largest == 0.0 && difference.is_rounding()));
        for wrong in [vec![1.0, 20.1], vec![1.0, f32::NAN], vec![1.0], vec![]] {
            let mut other = one.clone();
            other.numbers.insert("log-probs", wrong.iter().copied().map(f64::from).collect());
            let apart: Vec<&str> =
                one.compare(&other).iter().filter(|found| !found.is_rounding()).map(|found| found.what).collect();
            assert_eq!(apart, ["log-probs"], "{wrong:?}");
        }
        // What is coarser is allowed more, and not asked for the same tokens.
        for (precision, compared, distance) in [(Precision::Tf32, 7, 4e-3), (Precision::Bf16, 7, 1.9e-2)] {
            let mut other = DeviceNumbers { precision, numbers: BTreeMap::new() };
            ALLOWED.iter().for_each(|(what, ..)| other.add(what, &[1.0 + distance * 20.0, 20.0]));
            let found = one.compare(&other);
            assert!(found.len() == compared && found.iter().all(Difference::is_rounding), "{found:?}");
            other.add(GAP, &[0.0]);
            assert!(!one.compare(&other).iter().all(Difference::is_rounding));
        }
    }
}
