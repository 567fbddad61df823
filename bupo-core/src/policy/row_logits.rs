//! The logits of one state in host memory: their softmax, and sampling from it.

use super::sampled::Sampled;
use crate::CoreError;
use crate::kernels::host::{exp, max, sum, vectorized};

/// The logits of one state at the policy's temperature, with their maximum and normaliser.
pub(super) struct RowLogits<'a> {
    pub(super) logits: &'a [f32],
    pub(super) max: f32,
    /// Sums of `exp(logit - max)` of [`BLOCK`] tokens each.
    blocks: Vec<f64>,
    /// Sum of `exp(logit - max)`.
    pub(super) sum: f64,
}

/// Weights are summed in blocks of this many tokens; sampling then reads single tokens of one block only.
const BLOCK: usize = 256;

impl<'a> RowLogits<'a> {
    /// Reads the logits once.
    pub(super) fn read(logits: &'a [f32]) -> Result<Self, CoreError> {
        let (max, blocks) = vectorized!(weights_by_block(logits));
        let sum: f64 = blocks.iter().sum();
        // A NaN makes the sum NaN; an infinite maximum makes `inf - inf`.
        if sum.is_finite() { Ok(Self { logits, max, blocks, sum }) } else { Err(CoreError::NonFiniteLogits) }
    }

    /// The token at which the cumulative distribution reaches `uniform`.
    pub(super) fn draw(&self, uniform: f64) -> Sampled {
        let mut left = uniform * self.sum;
        let mut chosen = 0;
        for (index, weight) in self.blocks.iter().enumerate() {
            // With rounding, the draw can fall behind the last block that has a weight; it belongs to that block.
            if *weight > 0.0 {
                chosen = index;
                if *weight > left {
                    break;
                }
                left -= weight;
            }
        }
        let block = &self.logits[chosen * BLOCK..self.logits.len().min((chosen + 1) * BLOCK)];
        let mut token = 0;
        let mut cumulative = 0.0;
        for (index, logit) in block.iter().enumerate() {
            let weight = f64::from(exp(logit - self.max));
            if weight > 0.0 {
                token = index;
                cumulative += weight;
                if cumulative > left {
                    break;
                }
            }
        }
        self.sampled(chosen * BLOCK + token)
    }

    pub(super) fn prob(&self, token: usize) -> f32 {
        (f64::from(exp(self.logits[token] - self.max)) / self.sum) as f32
    }

    pub(super) fn sampled(&self, token: usize) -> Sampled {
        let log_prob = f64::from(self.logits[token] - self.max) - self.sum.ln();
        Sampled { token: token as u32, log_prob: log_prob as f32 }
    }
}

/// The largest logit, and the sum of `exp(logit - max)` of each block. A block is in the cache when it is read again.
#[inline(always)]
fn weights_by_block(logits: &[f32]) -> (f32, Vec<f64>) {
    let blocks: Vec<(f32, f32)> = logits
        .chunks(BLOCK)
        .map(|block| {
            let largest = max(block);
            // Without a finite logit the differences are not numbers.
            let has_weight = largest != f32::NEG_INFINITY;
            (largest, if has_weight { sum(block, |logit| exp(logit - largest)) } else { 0.0 })
        })
        .collect();
    let largest = blocks.iter().fold(f32::NEG_INFINITY, |a, (b, _)| if a.is_nan() || *b <= a { a } else { *b });
    let weight = |(max, sum): (f32, f32)| {
        if max == f32::NEG_INFINITY { 0.0 } else { f64::from(sum) * f64::from(max - largest).exp() }
    };
    (largest, blocks.into_iter().map(weight).collect())
}
