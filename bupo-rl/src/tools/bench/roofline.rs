//! The roofline bound of some work: its operations at the rate of a matrix product, its bytes at the rate of memory.

use std::time::Instant;

use bupo_core::kernels::{PackedWeight, activation_dtype, linear, linears_of_many_rows};
use bupo_models::{ComputeDtype, ModelConfig};
use burn::tensor::{DType, Distribution, Tensor, backend::Backend};
use serde::Serialize;

use super::{BenchMode, BenchSpec};

const F32: f64 = 4.0;
/// Runs of which the fastest counts: other work on the machine makes the others slower.
const RUNS: usize = 10;

/// The sizes of what [`Machine::measure`] times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineSizes {
    /// f32 numbers of the copy.
    copied: usize,
    /// Rows and columns of both factors of the product.
    product: [usize; 2],
}

impl MachineSizes {
    /// A copy of more than fits any cache; a product large enough to be limited by operations, small enough for a laptop.
    pub const LARGE: Self = Self { copied: 1 << 26, product: [2048, 1024] };
    /// A copy small enough for any device.
    pub const CHECK: Self = Self { copied: 1 << 22, product: [2048, 1024] };
    /// For software adapters, where the others take minutes.
    pub const SOFTWARE: Self = Self { copied: 1 << 20, product: [256, 256] };
}

/// The machine's measured rates, the best of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// Rate of a matrix product in 10^9 operations per second.
    pub gflops: f64,
    /// Rate of memory in 10^9 bytes per second: of a copy, which reads and writes, or of a product of one row, which reads
    /// weights, whichever is faster.
    pub memory_gb_per_second: f64,
}

/// The roofline bound: the least time the work can take at the machine's rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Roofline {
    /// Operations; a multiplication and an addition count as two.
    pub operations: f64,
    /// Bytes that must be read or written.
    pub bytes: f64,
    /// Operations divided by the rate of matrix products.
    pub operation_seconds: f64,
    /// Bytes divided by the rate of copies.
    pub byte_seconds: f64,
    /// The larger of the two.
    pub seconds: f64,
}

impl Machine {
    /// Times products of large matrices with weights in `dtype`, and the copying and reading of f32 numbers.
    pub fn measure<B: Backend>(sizes: MachineSizes, dtype: ComputeDtype, device: &B::Device) -> Self {
        let MachineSizes { copied, product: factor @ [rows, inner] } = sizes;
        let random = |shape| Tensor::<B, 2>::random(shape, Distribution::Uniform(-1.0, 1.0), device);
        let x = random(factor).cast(activation_dtype::<B>(dtype.dtype(), device));
        let weight = random(factor);
        let product = match (dtype, PackedWeight::new(weight.clone())) {
            (ComputeDtype::Bf16, Some(packed)) => {
                best::<B>(device, || drop(PackedWeight::products::<B, 1>([packed.clone()], x.clone())))
            }
            _ => {
                let weight = weight.cast(dtype.dtype());
                best::<B>(device, || drop(linears_of_many_rows(x.clone(), [weight.clone()])))
            }
        };
        let source = Tensor::<B, 1>::zeros([copied], device).cast(DType::F32);
        // The copy has a single owner, so that every number is read and written once.
        let copy = best::<B>(device, || drop(Tensor::cat(vec![source.clone()], 0).add_scalar(1.0)));
        // A product of one row does little but read its weights.
        let weights = source.reshape([-1, inner as i32]);
        let row = random([1, inner]);
        let read = best::<B>(device, || drop(linear(row.clone(), weights.clone())));
        let bytes = F32 * copied as f64;
        Self {
            gflops: 2.0 * (rows * rows * inner) as f64 / product * 1e-9,
            memory_gb_per_second: (2.0 * bytes / copy).max(bytes / read) * 1e-9,
        }
    }
}

fn best<B: Backend>(device: &B::Device, mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let started = Instant::now();
        f();
        // Without synchronisation the measured rate is too high, and the bound only too low.
        B::sync(device).ok();
        best = best.min(started.elapsed().as_secs_f64());
    }
    best
}

/// The operations and memory traffic that the work needs in any implementation.
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
        // Attention scores and weighted sums over the pairs of tokens within the causal mask.
        let attention = |pairs: f64| 4.0 * heads * pairs;
        let pairs = seq * (seq + 1.0) / 2.0;
        match spec.mode {
            BenchMode::Train | BenchMode::Phase1 => {
                let depth = if spec.mode == BenchMode::Train { layers } else { spec.layer as f64 };
                let forward = batch * (seq * 2.0 * (depth * layer + unembedding) + depth * attention(pairs));
                // The input embedding has a gradient too, and its moments.
                let trained = depth * layer + unembedding * if config.tie_word_embeddings { 1.0 } else { 2.0 };
                // Weights read in the forward and backward pass, gradients written; AdamW reads four numbers and writes three.
                Self { operations: 3.0 * forward, bytes: F32 * trained * (3.0 + 7.0) }
            }
            BenchMode::Rollout => {
                let prompts = (spec.batch as f64 / spec.group as f64).ceil();
                let prefill = prompts * (seq * 2.0 * layers * layer + layers * attention(pairs) + 2.0 * unembedding);
                // The last generated token is not run through the model.
                let steps = new - 1.0;
                let seen = steps * seq + steps * (steps + 1.0) / 2.0;
                let decode = batch * (steps * 2.0 * (layers * layer + unembedding) + layers * attention(seen));
                let cache = number * batch * layers * 2.0 * keys * seen;
                let read = steps * (number * layers * layer + F32 * unembedding);
                Self { operations: prefill + decode, bytes: read + cache }
            }
            BenchMode::Analyze | BenchMode::Measure => {
                // One unembedding product per contribution and for the embedding; `measure` adds module inputs and the full policy.
                let products = if spec.mode == BenchMode::Analyze { 2.0 * layers + 1.0 } else { 4.0 * layers + 2.0 };
                let operations = 2.0 * (layers * layer + products * unembedding);
                Self {
                    operations: batch * (seq * operations + layers * attention(pairs)),
                    bytes: number * layers * layer + F32 * products * unembedding,
                }
            }
        }
    }

    pub(super) fn roofline(&self, machine: &Machine) -> Roofline {
        let operation_seconds = self.operations / machine.gflops * 1e-9;
        let byte_seconds = self.bytes / machine.memory_gb_per_second * 1e-9;
        Roofline {
            operations: self.operations,
            bytes: self.bytes,
            operation_seconds,
            byte_seconds,
            seconds: operation_seconds.max(byte_seconds),
        }
    }
}
