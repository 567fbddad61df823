//! The kernels of GPUs beside the compositions they stand for.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::{
    AdamWStep, HeadNorms, RopeTable, adamw, add_rms_norm, add_rms_norm_backward, add_rows, attention,
    attention_backward, causal_tiles, heads_backward, matmul, rms_norm, rms_norm_backward, rotated_heads, runs_on_gpu,
    sum_of_all_squares, swiglu, swiglu_backward, widens_products,
};
use crate::kv_cache::{CacheRoom, KvCache};
use crate::policy::{InternalPolicy, SamplingParams, TokenDerivatives};
use crate::tokens::token_tensor;

/// Rows, columns and tokens are odd, and more than a cube has units.
const ROWS: usize = 37;
const WIDTH: usize = 301;
/// More than two blocks of tokens. Three slices of the vocabulary that the device check uses: where kernels of products take
/// seconds to compile, those of one are used by the other.
const VOCAB: usize = 3 * SLICE;
const SLICE: usize = 211;
const HIDDEN: usize = 48;
/// Compared with the host's.
const PRODUCTS: &str = "products of matrices";

/// A step of AdamW with every setting in use.
pub(super) const STEP: AdamWStep =
    AdamWStep { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1, scale: 0.5, step: 3 };

/// Irregular numbers between -2 and 2.
pub(super) fn irregular<const D: usize>(shape: [usize; D], seed: f64) -> TensorData {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (((i as f64 + seed) * 12.9898).sin() * 2.0) as f32).collect();
    TensorData::new(values, shape)
}

/// How far a kernel's results are from its composition's on the same device.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelDifference {
    /// What the kernel computes.
    pub kernel: &'static str,
    /// The largest difference, divided by the largest value; infinite if a value is not finite.
    pub largest: f64,
    /// The tolerance for rounding.
    pub allowed: f64,
}

impl KernelDifference {
    /// Whether the difference is within the tolerance.
    pub fn is_rounding(&self) -> bool {
        self.largest <= self.allowed
    }
}

/// Compares each kernel that runs on a backend, for activations of a dtype, with its composition on the same device; nothing
/// where none runs.
pub fn check_kernels<B: Backend>(dtype: DType, device: &B::Device) -> Vec<KernelDifference> {
    if !runs_on_gpu::<B>() {
        return Vec::new();
    }
    let check = Check::<B> { dtype, device: device.clone() };
    let computed = check.all();
    let composed = without_kernels(|| check.all());
    let pairs = computed.into_iter().zip(composed);
    pairs.map(|((kernel, ours), (_, theirs))| KernelDifference::of(kernel, &ours, &theirs, dtype)).collect()
}

/// Calls `f` with the kernels of GPUs turned off on this thread.
fn without_kernels<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return bupo_gpu::with_kernels(false, f);
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    f()
}

impl KernelDifference {
    fn of(kernel: &'static str, ours: &[f64], theirs: &[f64], dtype: DType) -> Self {
        let size = theirs.iter().fold(1e-3_f64, |size, value| size.max(value.abs()));
        let distance = |(a, b): (&f64, &f64)| (a - b).abs() / size;
        let same = ours.len() == theirs.len() && ours.iter().chain(theirs).all(|value| value.is_finite());
        let largest = if same { ours.iter().zip(theirs).map(distance).fold(0.0, f64::max) } else { f64::INFINITY };
        let allowed = match dtype {
            // Tensor cores round f32 factors to 11 bits.
            _ if kernel == PRODUCTS => 2e-3,
            DType::F32 => 1e-5,
            _ => 2e-2,
        };
        Self { kernel, largest, allowed }
    }
}

struct Check<B: Backend> {
    dtype: DType,
    device: B::Device,
}

type Results = Vec<(&'static str, Vec<f64>)>;

impl<B: Backend> Check<B> {
    fn all(&self) -> Results {
        let mut results = self.layer();
        results.extend(self.heads());
        results.extend(self.cache());
        results.extend(self.policy());
        results.extend(self.optimizer());
        if widens_products::<B>() {
            results.push((PRODUCTS, self.products()));
        }
        results
    }

    /// [`irregular`] in f32.
    fn full<const D: usize>(&self, shape: [usize; D], seed: f64) -> Tensor<B, D> {
        Tensor::from_data(irregular(shape, seed), (&self.device, DType::F32))
    }

    /// The same in the dtype of activations.
    fn low<const D: usize>(&self, shape: [usize; D], seed: f64) -> Tensor<B, D> {
        self.full(shape, seed).cast(self.dtype)
    }

    fn layer(&self) -> Results {
        let (x, y, weight) = (self.low([ROWS, WIDTH], 0.1), self.low([ROWS, WIDTH], 7.0), self.full([WIDTH], 3.0));
        let (sum, normed) = add_rms_norm(x.clone(), y.clone(), weight.clone(), 1e-6);
        let (dx, d_weight) = rms_norm_backward(x.clone(), weight.clone(), 1e-6, y.clone());
        let (d_sum, up) = (self.low([ROWS, WIDTH], 2.0), self.low([ROWS, WIDTH], 5.0));
        let (d, d_weight_of_sum) = add_rms_norm_backward(x.clone(), weight.clone(), 1e-6, d_sum, y.clone());
        let back = swiglu_backward(x.clone(), up.clone(), y.clone());
        vec![
            ("norm", numbers(rms_norm(x.clone(), weight, 1e-6))),
            ("addition and norm", [numbers(sum), numbers(normed)].concat()),
            ("norm, backward", numbers(dx)),
            ("norm's weight, backward", numbers(d_weight)),
            ("addition and norm, backward", [numbers(d), numbers(d_weight_of_sum)].concat()),
            ("SwiGLU", numbers(swiglu(x, up))),
            ("SwiGLU, backward", [back.hidden, back.d_gate, back.d_up].map(numbers).concat()),
        ]
    }

    /// Six query heads and two KV heads.
    fn heads(&self) -> Results {
        let (batch, seq, heads, kv_heads, head_dim) = (2, 11, 6, 2, 16);
        let (q, k) =
            (self.low([batch * seq, heads * head_dim], 1.0), self.low([batch * seq, kv_heads * head_dim], 2.0));
        let (v, d) =
            (self.low([batch * seq, kv_heads * head_dim], 4.0), self.low([batch * seq, heads * head_dim], 6.0));
        let norms = HeadNorms { q: self.full([head_dim], 3.0), k: self.full([head_dim], 5.0), eps: 1e-6 };
        let table = self.table(&(0..seq).collect::<Vec<_>>(), head_dim, seq);
        let mut results = Vec::new();
        for (what, norms) in [("rotation", None), ("head norm and rotation", Some(&norms))] {
            let (queries, keys) = rotated_heads(q.clone(), k.clone(), norms, &table, batch);
            results.push((what, [numbers(queries), numbers(keys)].concat()));
        }
        let (d_q, d_k) =
            (self.low([batch, heads, seq, head_dim], 8.0), self.low([batch, kv_heads, seq, head_dim], 9.0));
        for (what, norms) in [("rotation, backward", None), ("head norm and rotation, backward", Some(&norms))] {
            let back = heads_backward(d_q.clone(), d_k.clone(), q.clone(), k.clone(), norms, &table);
            let weights = back.weights.map(|weights| weights.map(numbers).concat()).unwrap_or_default();
            results.push((what, [numbers(back.q), numbers(back.k), weights].concat()));
        }
        let (queries, keys) = rotated_heads(q, k, Some(&norms), &table, batch);
        let tiles = causal_tiles(seq, self.dtype, &self.device);
        let output = attention(queries.clone(), keys.clone(), v.clone(), &tiles, 0.3);
        results.push(("causal attention", numbers(output.mixed.clone())));
        let back = attention_backward(queries, keys, v, output, d, &tiles, 0.3);
        let back = [numbers(back.d_q), numbers(back.d_k), numbers(back.d_v)].concat();
        results.push(("causal attention, backward", back));
        results
    }

    /// Rotations of some positions, `seq` of a sequence.
    fn table(&self, positions: &[usize], head_dim: usize, seq: usize) -> RopeTable<B> {
        let pairs = head_dim / 2;
        let angle = |position: usize, pair: usize| position as f32 * [1.0, 0.3, 0.1, 0.02, 0.001][pair % 5];
        let angles: Vec<f32> =
            positions.iter().flat_map(|position| (0..pairs).map(move |pair| angle(*position, pair))).collect();
        RopeTable::new(&angles, 1.25, head_dim, seq, self.dtype, &self.device)
    }

    /// Rows of different lengths, admitted and evicted, beyond the first slots.
    fn cache(&self) -> Results {
        let (kv_heads, head_dim) = (2, 10);
        let mut cache = KvCache::<B>::new(1, CacheRoom { rows: 3, slots: 5 });
        let shape = [2, kv_heads, 61, head_dim];
        let layer = |seed: f64| (self.low(shape, seed), self.low(shape, -seed));
        let norms = HeadNorms { q: self.full([head_dim], 3.0), k: self.full([head_dim], 5.0), eps: 1e-6 };
        cache.admit(&[layer(1.0)], &[(0, 61), (0, 61), (1, 2)]);
        let mut mixed = Vec::new();
        for step in 0..5 {
            if step == 2 {
                cache.keep(&[0, 2]);
                cache.admit(&[layer(2.0)], &[(1, 4)]);
            }
            let (rows, seed) = (cache.positions().len(), step as f64);
            let table = cache.rotation(|positions, seq| self.table(positions, head_dim, seq));
            let q = self.low([rows, 6 * head_dim], seed);
            let [k, v] = [0.5, 0.7].map(|more| self.low([rows, kv_heads * head_dim], seed + more));
            mixed.extend(numbers(cache.attend(1, q, Some([k, v]), (step % 2 == 0).then_some(&norms), &table, 0.3)));
            cache.advance();
        }
        vec![("rotation into the cache and its attention", mixed)]
    }

    fn policy(&self) -> Results {
        let (states, unembedding) = (self.full([ROWS, HIDDEN], 0.4), self.full([VOCAB, HIDDEN], 0.9));
        let mut policy = InternalPolicy::new(states.clone(), unembedding.clone()).with_temperature(0.8);
        policy.logits_at_once = ROWS * SLICE;
        let targets: Vec<u32> = (0..ROWS).map(|i| (i * 97 % VOCAB) as u32).collect();
        let derivative = |i: usize| (i as f32 * 0.7).sin();
        let forward = policy.forward(&targets);
        let stats = [&forward.stats.log_probs, &forward.stats.entropy].map(|part| part.iter().map(|x| f64::from(*x)));
        let stats = stats.into_iter().flatten().collect();
        let derivatives = TokenDerivatives { log_probs: (0..ROWS).map(derivative).collect(), entropy: None };
        let first = forward.backward(&derivatives);
        let entropy = Some((0..ROWS).map(|i| derivative(i + 5)).collect());
        let second = policy.forward(&targets).backward(&TokenDerivatives { entropy, ..derivatives });
        let gradients = [first.states, first.unembedding, second.states, second.unembedding].map(numbers).concat();
        let uniforms: Vec<Vec<f64>> = (0..ROWS)
            .map(|row| (0..row % 3).map(|i| (row as f64 * 0.37 + i as f64 * 0.21).fract()).collect())
            .collect();
        let policy = InternalPolicy::new(states, unembedding).with_temperature(0.8);
        let flat = |sampled: Vec<crate::Sampled>| -> Vec<f64> {
            sampled.iter().flat_map(|sampled| [f64::from(sampled.token), f64::from(sampled.log_prob)]).collect()
        };
        let sampled = policy.sample_several(&uniforms).map(|rows| flat(rows.into_iter().flatten().collect()));
        let params = SamplingParams { top_k: 60, top_p: 0.9, min_p: 0.05, ..SamplingParams::default() };
        let restricted = policy.sample_restricted(&uniforms, &params, &[&[][..]; ROWS]);
        let restricted = restricted.map(|rows| flat(rows.into_iter().flatten().collect()));
        let best = policy.greedy().map(flat);
        vec![
            ("log-probs and entropies", stats),
            ("log-probs and entropies, backward", gradients),
            ("sampled tokens", sampled.unwrap_or_default()),
            ("sampled tokens with top-k, top-p and min-p", restricted.unwrap_or_default()),
            ("best tokens", best.unwrap_or_default()),
        ]
    }

    /// Products of each kind of shape: few rows, bulk copies, double buffers, batches, any sizes; factors as they are or transposed.
    fn products(&self) -> Vec<f64> {
        let mut all = Vec::new();
        for [batch, rows, columns, inner] in
            [[1, 37, 304, 512], [1, 272, 288, 512], [1, 261, 301, 307], [3, 256, 264, 256], [2, 5, 7, 3]]
        {
            for (is_left_turned, is_right_turned) in [(false, true), (false, false), (true, false)] {
                let factor = |rows, columns, is_turned: bool, seed| {
                    let shape = if is_turned { [batch, columns, rows] } else { [batch, rows, columns] };
                    let stored: Tensor<B, 3> = self.low(shape, seed);
                    if is_turned { stored.swap_dims(1, 2) } else { stored }
                };
                let (lhs, rhs) =
                    (factor(rows, inner, is_left_turned, 0.2), factor(inner, columns, is_right_turned, 0.6));
                all.extend(if runs_on_gpu::<B>() {
                    numbers(matmul(lhs, rhs, DType::F32))
                } else {
                    host_product(&numbers(lhs), &numbers(rhs), [rows, columns, inner])
                });
            }
        }
        all
    }

    fn optimizer(&self) -> Results {
        let [weights, gradient, first, second] = [0.5, 8.0, 2.0, 7.0].map(|seed| self.full([ROWS, WIDTH], seed));
        let kept = weights.clone();
        let (w, m, v) = adamw(weights, gradient.clone(), first, second.abs(), &STEP);
        // Shared weights are not written to.
        let stepped = [w, m, v, kept].map(numbers).concat();
        let squares = sum_of_all_squares(vec![self.full([40_001], 0.3), self.full([5], 0.6), self.full([16_384], 0.9)]);
        let tokens: Vec<u32> = (0..ROWS).map(|i| (i * 7 % 11) as u32).collect();
        let rows = self.low([ROWS, WIDTH], 0.2);
        let table = add_rows(self.full([13, WIDTH], 0.8), token_tensor(&tokens, &self.device), rows);
        vec![("AdamW", stepped), ("sum of squares", vec![squares]), ("embedding, backward", numbers(table))]
    }
}

fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.cast(DType::F32).into_data().iter::<f64>().collect()
}

/// The products of batches of matrices, row by row.
fn host_product(lhs: &[f64], rhs: &[f64], [rows, columns, inner]: [usize; 3]) -> Vec<f64> {
    let batches = lhs.chunks(rows * inner).zip(rhs.chunks(inner * columns));
    let product = |(lhs, rhs): (&[f64], &[f64])| -> Vec<f64> {
        let row = |row: &[f64]| {
            let mut sums = vec![0.0; columns];
            for (left, right) in row.iter().zip(rhs.chunks(columns)) {
                sums.iter_mut().zip(right).for_each(|(sum, right)| *sum += left * right);
            }
            sums
        };
        lhs.chunks(inner).flat_map(row).collect()
    };
    batches.flat_map(product).collect()
}
