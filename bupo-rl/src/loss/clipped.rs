//! The policy-gradient objective and its derivatives, in f64 on the host.
//!
//! The loss depends on the model only through the log-probs of the sampled tokens and the entropies, so its gradient is two
//! numbers per token; `bupo-core` backpropagates it through the unembedding.

use serde::{Deserialize, Serialize};

use super::advantage::{Advantage, RewardedLength, ScaleRewards};
use super::entropy_target::EntropyTarget;
use super::reward_kl::RewardKl;
use super::surrogate::{SapoTemperatures, Surrogate};
use super::token_choice::Covariance;

/// Log ratios of tokens are clamped to this absolute value, with zero gradient beyond it.
pub(super) const MAX_LOG_RATIO: f64 = 20.0;
/// k3 is clamped to this.
const MAX_K3: f64 = 10.0;

/// The reduction of per-token losses to one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// The mean over all response tokens of the mini-batch.
    #[default]
    TokenMean,
    /// The mean over sequences of their token means (the formula of arXiv 2512.19673).
    SeqMeanTokenMean,
    /// The mean over sequences of their token sums.
    SeqMeanTokenSum,
    /// The same, divided by a constant: the longest response allowed (Dr. GRPO).
    SeqMeanTokenSumNorm,
}

/// The importance ratio that is clipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ratio {
    /// Per token, `exp(logp - logp_old)`.
    #[default]
    Token,
    /// Per response: the geometric mean of its token ratios, at most `e^10` (GSPO, arXiv 2507.18071).
    Sequence,
}

/// An estimate of KL(policy || reference) from a sampled token, with `x = logp` and `y` the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KlEstimator {
    /// `x - y`. As a loss term its gradient has zero expectation, so it only serves as a metric.
    K1,
    /// `(x - y)^2 / 2`.
    K2,
    /// `clamp(e^t - t - 1, -10, 10)` with `t = clamp(y - x, -20, 20)`.
    #[default]
    K3,
    /// The value of k3 with the gradient of k2, `x - y`, which is unbiased for samples of the policy (verl's `low_var_kl+`).
    #[serde(rename = "k3+")]
    K3StraightThrough,
}

/// The loss of a mini-batch: a surrogate, clipped by default, plus a KL penalty to a frozen reference and an entropy bonus if their
/// coefficients are not 0.
///
/// ```text
/// r = exp(clamp(logp - logp_old, -20, 20)), or the ratio of the response
/// surrogate = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high))
/// where A < 0: surrogate = min(surrogate, -A dual_clip)
/// loss = aggregate(w surrogate + kl_coefficient kl - entropy_coefficient H), w the weights of a correction, otherwise 1
/// ```
/// [`Surrogate`] has other surrogates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// How advantages are computed.
    pub advantage: Advantage,
    /// The standard deviation by which advantages are divided; `None` for what `advantage` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_rewards: Option<ScaleRewards>,
    /// The weight of advantages above 0; 0 trains on the others alone.
    pub positive_weight: f64,
    /// The weight of advantages below 0; 0 trains on the others alone.
    pub negative_weight: f64,
    /// The surrogate.
    pub surrogate: Surrogate,
    /// The importance ratio that is clipped.
    pub ratio: Ratio,
    /// Clips the ratio from below at `1 - clip_low`.
    pub clip_low: f64,
    /// Clips the ratio from above at `1 + clip_high`.
    pub clip_high: f64,
    /// Dual clip: bounds the loss of tokens with negative advantage at `-A dual_clip`; 0 disables it.
    pub dual_clip: f64,
    /// The reduction of per-token losses to one number.
    pub aggregation: Aggregation,
    /// Weight of the KL penalty to the reference (the model before training) at the same policy site; 0 disables it.
    pub kl_coefficient: f64,
    /// The estimator of that KL.
    pub kl_estimator: KlEstimator,
    /// Weight of the entropy bonus of the trained policy; 0 disables it.
    pub entropy_coefficient: f64,
    /// The share of a mini-batch's tokens, those of the highest entropy before the step, whose surrogates are in the loss; 1 for all
    /// (arXiv 2506.01939).
    pub top_entropy_share: f64,
    /// Tokens chosen by the covariance of their log-prob and advantage.
    pub covariance: Covariance,
    /// The temperatures of [`Surrogate::Sapo`].
    pub sapo: SapoTemperatures,
    /// A KL penalty in the reward.
    pub reward_kl: RewardKl,
    /// A target for the entropy, to which the coefficient of the bonus is moved.
    pub entropy_target: EntropyTarget,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            advantage: Advantage::Grpo,
            scale_rewards: None,
            positive_weight: 1.0,
            negative_weight: 1.0,
            surrogate: Surrogate::Clip,
            ratio: Ratio::Token,
            clip_low: 0.2,
            clip_high: 0.2,
            dual_clip: 10.0,
            aggregation: Aggregation::TokenMean,
            kl_coefficient: 0.0,
            kl_estimator: KlEstimator::K3,
            entropy_coefficient: 0.0,
            top_entropy_share: 1.0,
            covariance: Covariance::default(),
            sapo: SapoTemperatures::default(),
            reward_kl: RewardKl::default(),
            entropy_target: EntropyTarget::default(),
        }
    }
}

/// The sizes of a whole mini-batch by which its aggregation divides, so that the loss does not depend on micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    sequences: usize,
    tokens: usize,
    norm_length: usize,
}

impl BatchSize {
    /// The sizes of responses of these lengths. [`Aggregation::SeqMeanTokenSumNorm`] divides by `norm_length`, or by the longest
    /// response if it is `None`.
    pub fn of(lengths: impl Iterator<Item = usize>, norm_length: Option<usize>) -> Self {
        let none = Self { sequences: 0, tokens: 0, norm_length: 0 };
        let size = lengths.fold(none, |size, length| Self {
            sequences: size.sequences + 1,
            tokens: size.tokens + length,
            norm_length: size.norm_length.max(length),
        });
        Self { norm_length: norm_length.unwrap_or(size.norm_length), ..size }
    }

    /// The number of response tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The weight in the loss of each token of a response of this length.
    pub(crate) fn token_weight(&self, aggregation: Aggregation, length: usize) -> f64 {
        let divisor = match aggregation {
            Aggregation::TokenMean => self.tokens,
            Aggregation::SeqMeanTokenMean => self.sequences * length,
            Aggregation::SeqMeanTokenSum => self.sequences,
            Aggregation::SeqMeanTokenSumNorm => self.sequences * self.norm_length,
        };
        1.0 / divisor.max(1) as f64
    }
}

/// The inputs of the loss of one response: one number per token, and its advantage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResponseValues<'a> {
    /// Log-probs under the current policy.
    pub log_probs: &'a [f32],
    /// Log-probs under the policy before the step.
    pub old_log_probs: &'a [f32],
    /// Log-probs under the reference; required if `kl_coefficient` is not 0.
    pub ref_log_probs: Option<&'a [f32]>,
    /// Entropies of the current policy in nats.
    pub entropy: &'a [f32],
    /// The advantage of all its tokens.
    pub advantage: f64,
    /// An advantage for each token in its place; not where the surrogate is of the whole response.
    pub token_advantages: Option<&'a [f64]>,
    /// Weights of the tokens' surrogates, constants in the loss; `None` for 1.
    pub weights: Option<&'a [f64]>,
    /// The tokens that `covariance.kl_coefficient` penalises; `None` for none.
    pub penalised: Option<&'a [bool]>,
}

/// One response's share of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseLoss {
    /// Its part of the mini-batch's loss.
    pub loss: f64,
    /// The derivative of the mini-batch's loss with respect to each of its log-probs.
    pub d_log_probs: Vec<f64>,
    /// The derivative with respect to each of its entropies, the same for all.
    pub d_entropy: f64,
    /// Tokens clipped at the lower bound, `1 - clip_low`.
    pub clipped_low: usize,
    /// Tokens clipped at the upper bound, `1 + clip_high`.
    pub clipped_high: usize,
    /// Tokens bounded by the dual clip.
    pub dual_clipped: usize,
    /// The sum over tokens of `logp_old - logp`.
    pub kl_sum: f64,
    /// The sum over tokens of the estimated KL to the reference, 0 without one.
    pub ref_kl_sum: f64,
    /// The ratio furthest from 1, or 1.
    pub extreme_ratio: f64,
}

impl ResponseLoss {
    /// The loss without tokens.
    pub(crate) const NOTHING: Self = Self {
        loss: 0.0,
        d_log_probs: Vec::new(),
        d_entropy: 0.0,
        clipped_low: 0,
        clipped_high: 0,
        dual_clipped: 0,
        kl_sum: 0.0,
        ref_kl_sum: 0.0,
        extreme_ratio: 1.0,
    };

    /// Tokens clipped at either bound.
    pub fn clipped(&self) -> usize {
        self.clipped_low + self.clipped_high
    }

    /// Adds another response's values, except the derivatives.
    pub(crate) fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.clipped_low += other.clipped_low;
        self.clipped_high += other.clipped_high;
        self.dual_clipped += other.dual_clipped;
        self.kl_sum += other.kl_sum;
        self.ref_kl_sum += other.ref_kl_sum;
        self.extreme_ratio = further_from_one(self.extreme_ratio, other.extreme_ratio);
    }
}

impl Objective {
    /// Whether the loss or the reward needs log-probs of a frozen reference.
    pub fn needs_reference(&self) -> bool {
        self.kl_coefficient != 0.0 || self.reward_kl.is_on()
    }

    /// Whether the loss needs log-probs and entropies before the first update of a step: those of a whole mini-batch, or of a step.
    pub(crate) fn needs_values_before(&self) -> bool {
        self.chooses_tokens() || self.reward_kl.is_on() || self.entropy_target.is_on()
    }

    /// Whether tokens are chosen by their entropies or covariances.
    pub(crate) fn chooses_tokens(&self) -> bool {
        self.top_entropy_share < 1.0 || self.covariance.is_on()
    }

    /// The advantages of all of a step's groups, in their order.
    pub fn advantages(&self, groups: &[Vec<RewardedLength>]) -> Vec<Vec<f64>> {
        self.advantage.scaled(self.scale_rewards, groups)
    }

    /// The loss of one response of a mini-batch and its derivatives.
    ///
    /// # Panics
    /// If the values differ in length, or reference log-probs are required but missing.
    pub fn response(&self, values: &ResponseValues<'_>, batch: &BatchSize) -> ResponseLoss {
        let length = values.log_probs.len();
        assert_eq!(length, values.old_log_probs.len(), "one old log-prob per token");
        assert_eq!(length, values.entropy.len(), "one entropy per token");
        assert!(values.weights.is_none_or(|weights| weights.len() == length), "one weight per token");
        assert!(values.token_advantages.is_none_or(|advantages| advantages.len() == length), "one advantage per token");
        let weight = batch.token_weight(self.aggregation, length);
        let mut total = ResponseLoss { d_entropy: -self.entropy_coefficient * weight, ..ResponseLoss::NOTHING };
        let log_ratios: Vec<f64> = values
            .log_probs
            .iter()
            .zip(values.old_log_probs)
            .map(|(log_prob, old)| f64::from(*log_prob) - f64::from(*old))
            .collect();
        let token_weight = |index: usize| values.weights.map_or(1.0, |weights| weights[index]);
        let mean_weight = (0..length).map(token_weight).sum::<f64>() / length.max(1) as f64;
        for (index, (log_ratio, token)) in log_ratios.iter().zip(self.tokens(&log_ratios, values)).enumerate() {
            // A ratio of the response is in every token's loss.
            let d_weight = if self.is_of_response() { mean_weight } else { token_weight(index) };
            total.loss += weight * token_weight(index) * token.loss;
            total.d_log_probs.push(weight * d_weight * token.d_log_prob);
            total.clipped_low += usize::from(token.clipped && token.ratio < 1.0);
            total.clipped_high += usize::from(token.clipped && token.ratio > 1.0);
            total.dual_clipped += usize::from(token.dual_clipped);
            total.kl_sum -= log_ratio;
            total.extreme_ratio = further_from_one(total.extreme_ratio, token.ratio);
        }
        self.penalise(values, &log_ratios, weight, &mut total);
        total.loss -= self.entropy_coefficient * weight * values.entropy.iter().copied().map(f64::from).sum::<f64>();
        if self.needs_reference() {
            self.add_reference(values, weight, &mut total);
        }
        total
    }

    fn add_reference(&self, values: &ResponseValues<'_>, weight: f64, total: &mut ResponseLoss) {
        let reference = values.ref_log_probs.unwrap_or_default();
        assert_eq!(reference.len(), values.log_probs.len(), "one reference log-prob per token");
        for ((log_prob, reference), d) in values.log_probs.iter().zip(reference).zip(&mut total.d_log_probs) {
            let (kl, d_kl) = self.kl_estimator.of(f64::from(*log_prob), f64::from(*reference));
            total.ref_kl_sum += kl;
            total.loss += self.kl_coefficient * weight * kl;
            *d += self.kl_coefficient * weight * d_kl;
        }
    }
}

impl KlEstimator {
    /// The estimate at `x = logp` and `y`, the reference's, and its derivative in `x`, which is zero where a clamp is active.
    pub(super) fn of(self, x: f64, y: f64) -> (f64, f64) {
        match self {
            Self::K1 => (x - y, 1.0),
            Self::K2 => ((x - y).powi(2) / 2.0, x - y),
            Self::K3 => {
                let t = (y - x).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO);
                let kl = t.exp() - t - 1.0;
                let inside = (y - x).abs() <= MAX_LOG_RATIO && kl.abs() <= MAX_K3;
                (kl.clamp(-MAX_K3, MAX_K3), if inside { 1.0 - t.exp() } else { 0.0 })
            }
            Self::K3StraightThrough => (Self::K3.of(x, y).0, x - y),
        }
    }
}

fn further_from_one(a: f64, b: f64) -> f64 {
    if (b - 1.0).abs() > (a - 1.0).abs() { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_by_the_bound_that_clips_them() {
        let old = [0.0_f32; 5];
        // Ratios 0.5, 0.7, 1, 1.5 and 2.
        let log_probs = [0.5_f32, 0.7, 1.0, 1.5, 2.0].map(f32::ln);
        let counts = |advantage: f64| {
            let values = ResponseValues {
                log_probs: &log_probs,
                old_log_probs: &old,
                ref_log_probs: None,
                entropy: &[0.0; 5],
                advantage,
                token_advantages: None,
                weights: None,
                penalised: None,
            };
            let loss = Objective { clip_low: 0.4, clip_high: 0.2, ..Objective::default() }
                .response(&values, &BatchSize::of([5].into_iter(), None));
            (loss.clipped_low, loss.clipped_high, loss.clipped())
        };
        // A gain is clipped from above, a loss from below.
        assert_eq!(counts(1.0), (0, 2, 2));
        assert_eq!(counts(-1.0), (1, 0, 1));
    }
}
