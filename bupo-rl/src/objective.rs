//! The clipped policy-gradient objective and its derivative, in f64 on the host.
//!
//! The loss depends on the model through the log-probs of the sampled tokens only, so its gradient is one number per
//! token; `bupo-core` carries it on through the unembedding.

use serde::{Deserialize, Serialize};

/// Log ratios beyond this are cut off, and have no gradient.
const MAX_LOG_RATIO: f64 = 20.0;

/// How per-token losses become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// The mean over all response tokens of the mini-batch.
    #[default]
    TokenMean,
    /// The mean over sequences of each one's token mean (the paper's formula).
    SeqMeanTokenMean,
    /// The mean over sequences of each one's token sum.
    SeqMeanTokenSum,
    /// The same, divided by the longest response's length (Dr. GRPO).
    SeqMeanTokenSumNorm,
}

/// The clipped surrogate:
///
/// ```text
/// r = exp(clamp(logp - logp_old, -20, 20))
/// surrogate = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high))
/// where A < 0: surrogate = min(surrogate, -A dual_clip)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// How far the ratio may fall below 1.
    pub clip_low: f64,
    /// How far the ratio may rise above 1.
    pub clip_high: f64,
    /// Bounds the loss of bad responses that have become much more likely; 0 leaves it unbounded.
    pub dual_clip: f64,
    /// How per-token losses become one number.
    pub aggregation: Aggregation,
}

impl Default for Objective {
    fn default() -> Self {
        Self { clip_low: 0.2, clip_high: 0.2, dual_clip: 10.0, aggregation: Aggregation::TokenMean }
    }
}

/// The sizes of a whole mini-batch that its aggregation divides by, so that cutting it up changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    sequences: usize,
    tokens: usize,
    longest: usize,
}

impl BatchSize {
    /// Of responses of these lengths.
    pub fn of(lengths: impl Iterator<Item = usize>) -> Self {
        lengths.fold(Self { sequences: 0, tokens: 0, longest: 0 }, |size, length| Self {
            sequences: size.sequences + 1,
            tokens: size.tokens + length,
            longest: size.longest.max(length),
        })
    }

    /// The number of response tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// What each token of a response of this length weighs in the loss.
    fn token_weight(&self, aggregation: Aggregation, length: usize) -> f64 {
        let divisor = match aggregation {
            Aggregation::TokenMean => self.tokens,
            Aggregation::SeqMeanTokenMean => self.sequences * length,
            Aggregation::SeqMeanTokenSum => self.sequences,
            Aggregation::SeqMeanTokenSumNorm => self.sequences * self.longest,
        };
        1.0 / divisor.max(1) as f64
    }
}

/// One response's share of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseLoss {
    /// Its part of the mini-batch's loss.
    pub loss: f64,
    /// The derivative of the mini-batch's loss with respect to each of its log-probs.
    pub d_log_probs: Vec<f64>,
    /// Tokens whose clipped term is the larger one.
    pub clipped: usize,
    /// Tokens bounded by the dual clip.
    pub dual_clipped: usize,
    /// The sum over tokens of `logp_old - logp`.
    pub kl_sum: f64,
    /// The ratio furthest from 1, or 1.
    pub extreme_ratio: f64,
}

impl ResponseLoss {
    /// The loss of no tokens.
    pub(crate) const NOTHING: Self =
        Self { loss: 0.0, d_log_probs: Vec::new(), clipped: 0, dual_clipped: 0, kl_sum: 0.0, extreme_ratio: 1.0 };

    /// Adds another response's figures, all but its derivatives.
    pub(crate) fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.clipped += other.clipped;
        self.dual_clipped += other.dual_clipped;
        self.kl_sum += other.kl_sum;
        self.extreme_ratio = further_from_one(self.extreme_ratio, other.extreme_ratio);
    }
}

impl Objective {
    /// The loss of one response of a mini-batch and its derivative.
    ///
    /// # Panics
    /// If there are not as many old log-probs as new ones.
    pub fn response(
        &self,
        log_probs: &[f32],
        old_log_probs: &[f32],
        advantage: f64,
        batch: &BatchSize,
    ) -> ResponseLoss {
        assert_eq!(log_probs.len(), old_log_probs.len(), "one old log-prob per token");
        let weight = batch.token_weight(self.aggregation, log_probs.len());
        let mut total = ResponseLoss::NOTHING;
        for (log_prob, old) in log_probs.iter().zip(old_log_probs) {
            let token = self.token(f64::from(*log_prob) - f64::from(*old), advantage);
            total.loss += weight * token.loss;
            total.d_log_probs.push(weight * token.d_log_prob);
            total.clipped += usize::from(token.clipped);
            total.dual_clipped += usize::from(token.dual_clipped);
            total.kl_sum += f64::from(*old) - f64::from(*log_prob);
            total.extreme_ratio = further_from_one(total.extreme_ratio, token.ratio);
        }
        total
    }

    fn token(&self, log_ratio: f64, advantage: f64) -> TokenLoss {
        let inside = log_ratio.abs() <= MAX_LOG_RATIO;
        let ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp();
        let unclipped = -advantage * ratio;
        let clipped = -advantage * ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
        let is_clipped = clipped > unclipped;
        let surrogate = unclipped.max(clipped);
        let bound = -advantage * self.dual_clip;
        let dual_clipped = self.dual_clip > 0.0 && advantage < 0.0 && bound < surrogate;
        TokenLoss {
            ratio,
            loss: if dual_clipped { bound } else { surrogate },
            // d ratio / d logp = ratio; every clamp stops the gradient.
            d_log_prob: if is_clipped || dual_clipped || !inside { 0.0 } else { unclipped },
            clipped: is_clipped,
            dual_clipped,
        }
    }
}

struct TokenLoss {
    ratio: f64,
    loss: f64,
    d_log_prob: f64,
    clipped: bool,
    dual_clipped: bool,
}

fn further_from_one(a: f64, b: f64) -> f64 {
    if (b - 1.0).abs() > (a - 1.0).abs() { b } else { a }
}
