//! The least time some work can take: its operations at the rate of a plain matrix product, its bytes at the rate of a plain copy.

use std::time::Instant;

use bupo_models::{ComputeDtype, ModelConfig};
use burn::tensor::{DType, Distribution, Tensor, backend::Backend};
use serde::Serialize;

use super::{BenchMode, BenchSpec};

const F32: f64 = 4.0;

/// What this machine does of the plainest work, best of several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// Billions of operations a second of a product of matrices.
    pub gflops: f64,
    /// Billions of bytes a second read and written by a copy.
    pub copy_gb_per_second: f64,
}

/// The least time the work can take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Floor {
    /// Operations, a multiplication and an addition being two.
    pub operations: f64,
    /// Bytes that must be read or written.
    pub bytes: f64,
    /// Operations over the rate of products.
    pub operation_seconds: f64,
    /// Bytes over the rate of copies.
    pub byte_seconds: f64,
    /// The larger of the two.
    pub seconds: f64,
}

impl Machine {
    /// Times a product of `[rows, inputs]` with `[inputs, outputs]` in a dtype, and a copy of as many f32 numbers.
    pub fn measure<B: Backend>(
        [rows, inputs, outputs]: [usize; 3],
        copied: usize,
        dtype: ComputeDtype,
        device: &B::Device,
    ) -> Self {
        let random =
            |shape| Tensor::<B, 2>::random(shape, Distribution::Uniform(-1.0, 1.0), device).cast(dtype.dtype());
        let (x, weight) = (random([rows, inputs]), random([inputs, outputs]));
        let operations = 2.0 * (rows * inputs * outputs) as f64;
        let repeats = (2e10 / operations).clamp(1.0, 1000.0) as usize;
        let product = best::<B>(device, || {
            (0..repeats).for_each(|_| drop(x.clone().matmul(weight.clone())));
        });
        let source = Tensor::<B, 1>::zeros([copied], device).cast(DType::F32);
        // Nothing shares the result: every number is read and written once.
        let copy = best::<B>(device, || drop(Tensor::cat(vec![source.clone()], 0).add_scalar(1.0)));
        Self {
            gflops: operations * repeats as f64 / product * 1e-9,
            copy_gb_per_second: 2.0 * F32 * copied as f64 / copy * 1e-9,
        }
    }
}

fn best<B: Backend>(device: &B::Device, mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let started = Instant::now();
        f();
        // A device that cannot be waited for has no floor to speak of.
        B::sync(device).ok();
        best = best.min(started.elapsed().as_secs_f64());
    }
    best
}

/// What some work must do whatever the program.
pub(super) struct Cost {
    operations: f64,
    bytes: f64,
}

impl Cost {
    pub(super) fn of(config: &ModelConfig, spec: &BenchSpec) -> Self {
        let [hidden, inner, vocab] =
            [config.hidden_size, config.intermediate_size, config.vocab_size].map(|n| n as f64);
        let heads = (config.num_attention_heads * config.head_dim) as f64;
        let keys = (config.num_key_value_heads * config.head_dim) as f64;
        let layer = hidden * (2.0 * heads + 2.0 * keys + 3.0 * inner);
        let unembedding = hidden * vocab;
        let layers = config.num_hidden_layers as f64;
        let (batch, seq, new) = (spec.batch as f64, spec.seq as f64, spec.new as f64);
        let number = spec.dtype.bytes() as f64;
        // Scores and mixtures of the pairs of tokens that see one another.
        let attention = |pairs: f64| 4.0 * heads * pairs;
        let pairs = seq * (seq + 1.0) / 2.0;
        match spec.mode {
            BenchMode::Train | BenchMode::Phase1 => {
                let depth = if spec.mode == BenchMode::Train { layers } else { spec.layer as f64 };
                let forward = batch * (seq * 2.0 * (depth * layer + unembedding) + depth * attention(pairs));
                // The input embedding has a gradient too, and its moments.
                let trained = depth * layer + unembedding * if config.tie_word_embeddings { 1.0 } else { 2.0 };
                // Weights read forward and back, gradients written; AdamW reads four numbers and writes three.
                Self { operations: 3.0 * forward, bytes: F32 * trained * (3.0 + 7.0) }
            }
            BenchMode::Rollout => {
                let prompts = (spec.batch as f64 / spec.group as f64).ceil();
                let prefill = prompts * (seq * 2.0 * layers * layer + layers * attention(pairs) + 2.0 * unembedding);
                // The last token generated is not run.
                let steps = new - 1.0;
                let seen = steps * seq + steps * (steps + 1.0) / 2.0;
                let decode = batch * (steps * 2.0 * (layers * layer + unembedding) + layers * attention(seen));
                let cache = number * batch * layers * 2.0 * keys * seen;
                let read = steps * (number * layers * layer + F32 * unembedding);
                Self { operations: prefill + decode, bytes: read + cache }
            }
            BenchMode::Analyze | BenchMode::Measure => {
                // Contributions and the embedding; what modules read and the full policy have products of their own.
                let products = if spec.mode == BenchMode::Analyze { 2.0 * layers + 1.0 } else { 4.0 * layers + 2.0 };
                let operations = 2.0 * (layers * layer + products * unembedding);
                Self {
                    operations: batch * (seq * operations + layers * attention(pairs)),
                    bytes: number * layers * layer + F32 * products * unembedding,
                }
            }
        }
    }

    pub(super) fn floor(&self, machine: &Machine) -> Floor {
        let operation_seconds = self.operations / machine.gflops * 1e-9;
        let byte_seconds = self.bytes / machine.copy_gb_per_second * 1e-9;
        Floor {
            operations: self.operations,
            bytes: self.bytes,
            operation_seconds,
            byte_seconds,
            seconds: operation_seconds.max(byte_seconds),
        }
    }
}
