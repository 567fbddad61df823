//! Attention as a composition of tensor operations, tile by tile of the queries.

use std::ops::Range;

use burn::tensor::{DType, Int, Tensor, activation::softmax, backend::Backend};

use crate::kernels::host::hosts;
use crate::kernels::{matmul, on_gpu, runs_on_gpu};

/// Queries whose scores are held at a time. A tile uses the keys up to its last query, so little above the diagonal is
/// computed; larger ones are fewer launches of kernels on GPUs.
pub const fn attention_tile(gpu_kernels: bool) -> usize {
    if gpu_kernels { 512 } else { 128 }
}
/// Added to the score of a masked key; finite, so that no NaN arises.
const MASKED: f64 = -1e9;

/// A range of query positions; each query attends to the keys up to its own position.
#[derive(Debug, Clone)]
pub struct CausalTile<B: Backend> {
    /// Positions of the queries.
    queries: Range<usize>,
    /// Added to the scores, `[queries, keys]`; none where the kernels of GPUs run.
    mask: Option<Tensor<B, 2>>,
}

/// The tiles of sequences of `seq` tokens, for scores of a dtype; none on the CPU backend, which has its own.
pub fn causal_tiles<B: Backend>(seq: usize, dtype: DType, device: &B::Device) -> Vec<CausalTile<B>> {
    if hosts::<B>(dtype, device) {
        return Vec::new();
    }
    let tile = attention_tile(runs_on_gpu::<B>());
    let tiles = (0..seq).step_by(tile).map(|start| start..(start + tile).min(seq));
    tiles.map(|queries| CausalTile::new(queries, device)).collect()
}

impl<B: Backend> CausalTile<B> {
    fn new(queries: Range<usize>, device: &B::Device) -> Self {
        if runs_on_gpu::<B>() {
            return Self { queries, mask: None };
        }
        let positions = |range: Range<usize>| {
            Tensor::<B, 1, Int>::arange(range.start as i64..range.end as i64, device).float().cast(DType::F32)
        };
        let keys: Tensor<B, 2> = positions(0..queries.end).unsqueeze_dim(0);
        // How far a key is after a query.
        let later = keys - positions(queries.clone()).unsqueeze_dim(1);
        Self { queries, mask: Some(later.clamp(0.0, 1.0) * MASKED) }
    }
}

/// `softmax(scale q k^T) v` of queries `[batch, heads, seq, head_dim]` and keys and values
/// `[batch, kv_heads, seq, head_dim]`.
pub(super) fn attend<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    tiles: &[CausalTile<B>],
    scale: f64,
) -> Tensor<B, 4> {
    let ([batch, heads, seq, head_dim], kv_heads) = (q.dims(), k.dims()[1]);
    let [q, k, v] = [q, k, v].map(|x| grouped(x, kv_heads));
    let dtype = q.dtype();
    let mixed = tiles.iter().map(|tile| {
        let seen = |x: &Tensor<B, 5>| x.clone().narrow(3, 0, tile.queries.end);
        let scores = matmul(of(tile, &q), seen(&k).transpose(), dtype);
        matmul(causal_softmax(scores, tile, scale), seen(&v), dtype)
    });
    joined(mixed.collect()).reshape([batch, heads, seq, head_dim])
}

/// The gradients with respect to `q`, `k` and `v` of [`attend`]; attention weights are recomputed tile by tile. The queries of
/// a KV head's group are rows of one product, which sums over the group.
pub(super) fn attend_backward<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    d_mixed: Tensor<B, 4>,
    tiles: &[CausalTile<B>],
    scale: f64,
) -> (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) {
    let ([batch, heads, seq, head_dim], kv_heads) = (q.dims(), k.dims()[1]);
    let [q, d_mixed] = [q, d_mixed].map(|x| grouped(x, kv_heads));
    let (group, dtype) = (heads / kv_heads, q.dtype());
    let product = |a, b| matmul(a, b, dtype);
    let (mut d_q, mut d_k, mut d_v) = (Vec::new(), None, None);
    // From the last tile on, so that the sums for keys and values have their full length from the start.
    for tile in tiles.iter().rev() {
        let (queries, keys) = (tile.queries.len(), tile.queries.end);
        let seen = |x: &Tensor<B, 4>| x.clone().narrow(2, 0, keys);
        let rows = |x: &Tensor<B, 5>| of(tile, x).reshape([batch, kv_heads, group * queries, head_dim]);
        let by_group = |x: Tensor<B, 4>, width| x.reshape([batch, kv_heads, group, queries, width]);
        let by_row = |x: Tensor<B, 5>| x.reshape([batch, kv_heads, group * queries, keys]);
        let (q, d_mixed) = (rows(&q), rows(&d_mixed));
        let weights = causal_softmax(by_group(product(q.clone(), seen(&k).transpose()), keys), tile, scale);
        let d_weights = by_group(product(d_mixed.clone(), seen(&v).transpose()), keys);
        add_to(&mut d_v, product(by_row(weights.clone()).transpose(), d_mixed));
        let d_scores = by_row(softmax_backward(weights, d_weights, tile, scale));
        d_q.push(by_group(product(d_scores.clone(), seen(&k)), head_dim));
        add_to(&mut d_k, product(d_scores.transpose(), q));
    }
    d_q.reverse();
    let d_q = joined(d_q).reshape([batch, heads, seq, head_dim]);
    (d_q, d_k.unwrap_or_else(|| k.zeros_like()), d_v.unwrap_or_else(|| k.zeros_like()))
}

/// The tiles of queries `[.., queries, ..]` one after another.
fn joined<B: Backend>(mut tiles: Vec<Tensor<B, 5>>) -> Tensor<B, 5> {
    // A concatenation of one would be a copy.
    if tiles.len() == 1 { tiles.remove(0) } else { Tensor::cat(tiles, 3) }
}

/// Queries as `[batch, kv_heads, group, seq, head_dim]`, keys or values as `[batch, kv_heads, 1, seq, head_dim]`, so
/// that products broadcast a KV head over its group.
fn grouped<B: Backend>(x: Tensor<B, 4>, kv_heads: usize) -> Tensor<B, 5> {
    let [batch, heads, seq, head_dim] = x.dims();
    if heads == kv_heads { x.unsqueeze_dim(2) } else { x.reshape([batch, kv_heads, heads / kv_heads, seq, head_dim]) }
}

/// The part of `x` `[.., seq, ..]` at the queries of a tile.
fn of<B: Backend>(tile: &CausalTile<B>, x: &Tensor<B, 5>) -> Tensor<B, 5> {
    x.clone().narrow(3, tile.queries.start, tile.queries.len())
}

/// Adds `part` to the first positions of `sum` `[batch, kv_heads, seq, head_dim]`.
fn add_to<B: Backend>(sum: &mut Option<Tensor<B, 4>>, part: Tensor<B, 4>) {
    let [batch, kv_heads, seen, head_dim] = part.dims();
    *sum = Some(match sum.take() {
        None => part,
        Some(sum) => {
            let range = [0..batch, 0..kv_heads, 0..seen, 0..head_dim];
            let part = part + sum.clone().slice(range.clone());
            sum.slice_assign(range, part)
        }
    });
}

/// `softmax(scale * scores)` over the keys of `[.., queries, keys]`; keys after a query have weight 0.
fn causal_softmax<B: Backend>(scores: Tensor<B, 5>, tile: &CausalTile<B>, scale: f64) -> Tensor<B, 5> {
    on_gpu!(B, bupo_gpu::causal_softmax(scores, tile.queries.start, scale));
    let dtype = scores.dtype();
    let mut scores = scores.cast(DType::F32) * scale;
    if let Some(mask) = &tile.mask {
        scores = scores + mask.clone().unsqueeze();
    }
    softmax(scores, 4).cast(dtype)
}

/// The gradient with respect to the unscaled scores, from the softmax's result and the gradient with respect to that.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), expect(unused_variables, reason = "for the kernel of GPUs"))]
fn softmax_backward<B: Backend>(
    weights: Tensor<B, 5>,
    d_weights: Tensor<B, 5>,
    tile: &CausalTile<B>,
    scale: f64,
) -> Tensor<B, 5> {
    on_gpu!(B, bupo_gpu::softmax_backward(weights, d_weights, tile.queries.start, scale));
    let dtype = weights.dtype();
    let (weights, d_weights) = (weights.cast(DType::F32), d_weights.cast(DType::F32));
    let mean = (weights.clone() * d_weights.clone()).sum_dim(4);
    (weights * (d_weights - mean) * scale).cast(dtype)
}
