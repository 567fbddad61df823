//! The logits of one state in host memory: their softmax, and sampling from it.

use super::sampled::Sampled;
use crate::CoreError;
use crate::kernels::host::{exp, max, sum};

/// The logits of one state at the policy's temperature, with their maximum and normaliser.
pub(super) struct RowLogits<'a> {
    pub(super) logits: &'a [f32],
    pub(super) max: f32,
    /// Sum of `exp(logit - max)`.
    pub(super) sum: f64,
}

/// Weights are summed in blocks of this many tokens; sampling then reads single tokens of one block only.
const BLOCK: usize = 256;

impl<'a> RowLogits<'a> {
    #[inline(always)]
    pub(super) fn read(logits: &'a [f32]) -> Result<Self, CoreError> {
        let max = max(logits);
        let sum: f64 = logits.chunks(BLOCK).map(|block| f64::from(block_sum(block, max))).sum();
        // A NaN makes the sum NaN; an infinite maximum makes `inf - inf`.
        if sum.is_finite() { Ok(Self { logits, max, sum }) } else { Err(CoreError::NonFiniteLogits) }
    }

    /// The token at which the cumulative distribution reaches `uniform`.
    pub(super) fn draw(&self, uniform: f64) -> Sampled {
        let mut left = uniform * self.sum;
        let mut chosen = 0;
        for (index, block) in self.logits.chunks(BLOCK).enumerate() {
            let weight = f64::from(block_sum(block, self.max));
            // With rounding, the draw can fall behind the last block that has a weight; it belongs to that block.
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
