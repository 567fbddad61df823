//! The device check: the computations of training on a small model, to compare one device with another.

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

/// Grouped-query attention, head norms, widths that are not powers of two, a prime vocabulary size.
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

/// The results on one device, by quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceNumbers {
    precision: Precision,
    numbers: BTreeMap<&'static str, Vec<f64>>,
}

/// The difference of one quantity between two devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The quantity.
    pub what: &'static str,
    /// The largest absolute difference, divided by the largest absolute value if that is above 1; infinite if a value is not
    /// finite.
    pub largest: f64,
    /// The tolerance for rounding.
    pub allowed: f64,
}

/// The precision of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    F32,
    /// f32 inputs rounded to TF32 (11 significant bits) by tensor cores.
    Tf32,
    Bf16,
}

/// The quantities and their tolerances in f32 and in bf16 (`None`: not compared); in TF32 a quarter of the latter. Sampled tokens
/// are equal in f32 with the same random numbers: the probability that rounding changes one is about 1/1000 here. Weights are
/// compared in f32 only: where a gradient consists of rounding errors, AdamW still makes a full step.
const ALLOWED: [(&str, f64, Option<f64>); 10] = [
    ("log-probs", 1e-4, Some(2e-2)),
    ("entropies", 1e-4, Some(2e-2)),
    ("KL(layer || full)", 1e-4, Some(2e-2)),
    (SAMPLED, 0.0, None),
    ("sampled tokens' log-probs", 1e-4, None),
    (LOGP_DIFFERENCE, 1e-4, Some(2e-2)),
    ("loss", 1e-4, Some(2e-2)),
    ("gradient norm", 1e-3, Some(2e-2)),
    (MOMENTS, 1e-4, Some(5e-2)),
    ("weights after two updates", 1e-4, None),
];
const SAMPLED: &str = "sampled tokens";
const LOGP_DIFFERENCE: &str = "log-probs at sampling less in training";
const MOMENTS: &str = "first moments";

impl Precision {
    fn of<B: Backend>(dtype: ComputeDtype, device: &B::Device) -> Self {
        match dtype {
            ComputeDtype::Bf16 => Self::Bf16,
            ComputeDtype::F32 if B::name(device).contains("cuda") => Self::Tf32,
            ComputeDtype::F32 => Self::F32,
        }
    }

    /// The compared quantities and their tolerances.
    fn allowed(self) -> impl Iterator<Item = (&'static str, f64)> {
        ALLOWED.into_iter().filter_map(move |(what, in_f32, in_bf16)| match self {
            Self::F32 => Some((what, in_f32)),
            Self::Tf32 => Some((what, in_bf16? / 4.0)),
            Self::Bf16 => Some((what, in_bf16?)),
        })
    }
}

impl DeviceNumbers {
    /// Computes log-probs, entropies and KL divergences at several sites, samples responses, and makes two updates: of a layer
    /// policy, then of the full policy.
    ///
    /// # Errors
    /// If logits are not finite.
    pub fn on<B: Backend>(dtype: ComputeDtype, device: &B::Device) -> Result<Self, RlError> {
        let config = ModelConfig::from_json(CONFIG)?;
        let decoder: Decoder<B> = Decoder::build(&config, &mut ScaledInit(RandomInit::new(SEED, device.clone())))?;
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
                let differences = response.log_probs.iter().zip(&again.log_probs).map(|(a, b)| (a - b).abs());
                computed.add(SAMPLED, &tokens);
                computed.add("sampled tokens' log-probs", &response.log_probs);
                let largest = differences.fold(0.0, f32::max);
                computed.add(LOGP_DIFFERENCE, &[largest]);
            }
        }
        let objective = Objective { kl_coefficient: 0.1, entropy_coefficient: 0.01, ..Objective::default() };
        // With a larger epsilon, gradients that consist of rounding errors do not become full steps.
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
                    critic: None,
                    // Ratios of 1, within the clip range, and beyond it.
                    old_log_probs: Some(old.log_probs.iter().map(|log_prob| log_prob - 0.15 * index as f32).collect()),
                    ref_log_probs: Some(old.log_probs.iter().map(|log_prob| log_prob + 0.1).collect()),
                    sampling: None,
                    chosen: Default::default(),
                    terms: Vec::new(),
                })
                .collect();
            let loss = LossSpec {
                policy,
                objective,
                norm_length: None,
                max_tokens_per_batch: 32,
                recompute: false,
                correction: None,
                terms: Vec::new(),
            };
            let stats = update(&mut decoder, &mut optimizer, &samples, &loss)?;
            computed.add("loss", &[stats.loss as f32]);
            computed.add("gradient norm", &[stats.grad_norm as f32]);
        }
        for moments in optimizer.moments().values() {
            // The clipped gradient has norm 1 and the moment a tenth of it: scaled to the size of the other quantities.
            let means: Vec<f32> =
                moments.first.clone().values().into_data().iter::<f32>().map(|mean| mean * 100.0).collect();
            computed.add(MOMENTS, &means);
        }
        for tensor in named_tensors(&decoder) {
            computed.add("weights after two updates", &tensor.data.iter::<f32>().collect::<Vec<_>>());
        }
        Ok(computed)
    }

    /// The differences of another device's results from these, with the tolerances of that device's precision.
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
    /// Whether the difference is within the tolerance.
    pub fn is_rounding(&self) -> bool {
        self.largest <= self.allowed
    }
}

/// Random weights scaled by 8, so that policies are not close to uniform; scaling by a power of two is exact.
struct ScaledInit<B: Backend>(RandomInit<B>);

impl<B: Backend> ParamSource<B> for ScaledInit<B> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<B, D>, ModelError> {
        let random = self.0.tensor(name, shape)?;
        Ok(if name.ends_with("norm.weight") { random } else { random * 8.0 })
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
    fn differences_beyond_the_tolerance_are_found() {
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
        // Lower precision has larger tolerances, and sampled tokens are not compared.
        for (precision, compared, distance) in [(Precision::Tf32, 7, 4e-3), (Precision::Bf16, 7, 1.9e-2)] {
            let mut other = DeviceNumbers { precision, numbers: BTreeMap::new() };
            ALLOWED.iter().for_each(|(what, ..)| other.add(what, &[1.0 + distance * 20.0, 20.0]));
            let found = one.compare(&other);
            assert!(found.len() == compared && found.iter().all(Difference::is_rounding), "{found:?}");
            other.add(LOGP_DIFFERENCE, &[0.0]);
            assert!(!one.compare(&other).iter().all(Difference::is_rounding));
        }
    }
}
