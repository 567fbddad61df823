//! The softmax of causal attention.

use std::ops::Range;

use burn::tensor::{DType, Int, Tensor, activation::softmax, backend::Backend};
use rayon::prelude::*;

use super::host::{Host, each_row, exp, hosts, is_host_f32, max, sum, sum2, task_rows, vectorized};

/// Queries whose scores are held at a time. A tile uses the keys up to its last query, so little above the diagonal is
/// computed.
pub const ATTENTION_TILE: usize = 128;
/// Added to the score of a masked key; finite, so that no NaN arises.
const MASKED: f64 = -1e9;

/// A range of query positions; each query attends to the keys up to its own position.
#[derive(Debug, Clone)]
pub struct CausalTile<B: Backend> {
    /// Positions of the queries.
    pub queries: Range<usize>,
    /// Added to the scores, `[queries, keys]`; `None` on the CPU backend.
    mask: Option<Tensor<B, 2>>,
}

/// The tiles of sequences of `seq` tokens, for scores of a dtype.
pub fn causal_tiles<B: Backend>(seq: usize, dtype: DType, device: &B::Device) -> Vec<CausalTile<B>> {
    let tiles = (0..seq).step_by(ATTENTION_TILE).map(|start| start..(start + ATTENTION_TILE).min(seq));
    tiles.map(|queries| CausalTile::new(queries, dtype, device)).collect()
}

impl<B: Backend> CausalTile<B> {
    pub(crate) fn new(queries: Range<usize>, dtype: DType, device: &B::Device) -> Self {
        let mask = || {
            let positions = |range: Range<usize>| {
                Tensor::<B, 1, Int>::arange(range.start as i64..range.end as i64, device).float().cast(DType::F32)
            };
            let keys: Tensor<B, 2> = positions(0..queries.end).unsqueeze_dim(0);
            // How far a key is after a query.
            let later = keys - positions(queries.clone()).unsqueeze_dim(1);
            later.clamp(0.0, 1.0) * MASKED
        };
        let mask = (!hosts::<B>(dtype, device)).then(mask);
        Self { queries, mask }
    }
}

/// `softmax(scale * scores)` over the last dimension of `[.., queries, keys]`, for keys at positions from 0 and the
/// queries of a tile; keys after a query have weight 0.
pub fn causal_softmax<B: Backend>(scores: Tensor<B, 5>, tile: &CausalTile<B>, scale: f64) -> Tensor<B, 5> {
    let [.., queries, keys] = scores.dims();
    let device = scores.device();
    if let Some(mask) = &tile.mask {
        let dtype = scores.dtype();
        return softmax(scores.cast(DType::F32) * scale + mask.clone().unsqueeze(), 4).cast(dtype);
    }
    let first_position = tile.queries.start;
    let mut scores = Host::take(scores);
    each_row(scores.values_mut(), keys, |row, values| {
        let (seen, later) = values.split_at_mut((first_position + row % queries + 1).min(keys));
        let largest = max(seen);
        for score in seen.iter_mut() {
            *score = exp((*score - largest) * scale as f32);
        }
        let inverse = 1.0 / sum(seen, |weight| weight);
        seen.iter_mut().for_each(|weight| *weight *= inverse);
        later.fill(0.0);
    });
    scores.give(&device)
}

/// The gradient with respect to the unscaled scores, from the softmax's result and the gradient with respect to that.
pub fn softmax_backward<B: Backend>(weights: Tensor<B, 5>, d_weights: Tensor<B, 5>, scale: f64) -> Tensor<B, 5> {
    if !is_host_f32(&weights) {
        let dtype = weights.dtype();
        let (weights, d_weights) = (weights.cast(DType::F32), d_weights.cast(DType::F32));
        let mean = (weights.clone() * d_weights.clone()).sum_dim(4);
        return (weights * (d_weights - mean) * scale).cast(dtype);
    }
    let ([.., keys], device) = (weights.dims(), weights.device());
    let (weights, mut d_weights) = (Host::take(weights), Host::take(d_weights));
    let rows = task_rows(keys);
    d_weights.values_mut().par_chunks_mut(rows * keys).zip(weights.values().par_chunks(rows * keys)).for_each(
        |(d_weights, weights)| {
            vectorized(|| {
                for (d_weights, weights) in d_weights.chunks_exact_mut(keys).zip(weights.chunks_exact(keys)) {
                    let mean = sum2(d_weights, weights, |d, weight| d * weight);
                    for (d, weight) in d_weights.iter_mut().zip(weights) {
                        *d = weight * (*d - mean) * scale as f32;
                    }
                }
            });
        },
    );
    d_weights.give(&device)
}
