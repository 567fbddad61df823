//! The logits of one position in host memory: their softmax, and sampling from it.

use super::sample::Sampled;
use crate::CoreError;
use crate::kernels::host::{exp, max, sum};

/// The logits of one state, with what normalises them.
pub(super) struct RowLogits<'a> {
    pub(super) logits: &'a [f32],
    pub(super) max: f32,
    /// Sum of `exp(logit - max)`.
    pub(super) sum: f64,
}

/// Weights are added up by blocks of this many, so that drawing reads a block's tokens only where the draw falls into it.
const BLOCK: usize = 256;

impl<'a> RowLogits<'a> {
    #[inline(always)]
    pub(super) fn read(logits: &'a [f32]) -> Result<Self, CoreError> {
        let max = max(logits);
        let sum: f64 = logits.chunks(BLOCK).map(|block| f64::from(block_sum(block, max))).sum();
        // A NaN makes the sum NaN; an infinite maximum makes `inf - inf`.
        if sum.is_finite() { Ok(Self { logits, max, sum }) } else { Err(CoreError::NonFiniteLogits) }
    }

    pub(super) fn draw(&self, uniform: f64) -> Sampled {
        let mut left = uniform * self.sum;
        let mut chosen = 0;
        for (index, block) in self.logits.chunks(BLOCK).enumerate() {
            let weight = f64::from(block_sum(block, self.max));
            // The last block that weighs anything is the end whatever rounding says.
            if weight > 0.0 {
                chosen = index;
                if weight > left {
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

    pub(super) fn sampled(&self, token: usize) -> Sampled {
        let log_prob = f64::from(self.logits[token] - self.max) - self.sum.ln();
        Sampled { token: token as u32, log_prob: log_prob as f32 }
    }
}

#[inline(always)]
fn block_sum(block: &[f32], max: f32) -> f32 {
    sum(block, |logit| exp(logit - max))
}
