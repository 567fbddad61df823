//! The softmax of causal attention.

use burn::tensor::{DType, Tensor, TensorData, activation::softmax, backend::Backend};
use rayon::prelude::*;

use super::host::{Host, each_row, exp, hosted, max, sum, sum2, task_rows, vectorized};

/// The score of what must not be seen; finite, so that nothing becomes NaN.
const MASKED: f32 = -1e9;

/// `softmax(scale * scores)` over the last dimension of `[.., queries, keys]`, keys being positions from 0, queries from
/// `first_position`; what comes after a query weighs nothing.
pub fn causal_softmax<B: Backend>(scores: Tensor<B, 5>, first_position: usize, scale: f64) -> Tensor<B, 5> {
    let [.., queries, keys] = scores.dims();
    let device = scores.device();
    if !hosted(&scores) {
        let dtype = scores.dtype();
        let mask: Vec<f32> = (0..queries)
            .flat_map(|query| (0..keys).map(move |key| if key > first_position + query { MASKED } else { 0.0 }))
            .collect();
        let mask = Tensor::<B, 2>::from_data(TensorData::new(mask, [queries, keys]), &device);
        return softmax(scores.cast(DType::F32) * scale + mask.unsqueeze(), 4).cast(dtype);
    }
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

/// The gradient with respect to the unscaled scores, from the softmax's own result and the gradient with respect to it.
pub fn softmax_backward<B: Backend>(weights: Tensor<B, 5>, d_weights: Tensor<B, 5>, scale: f64) -> Tensor<B, 5> {
    if !hosted(&weights) {
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
