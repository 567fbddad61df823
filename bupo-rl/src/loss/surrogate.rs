//! Surrogates of a token's policy gradient and their derivatives.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::clipped::{MAX_LOG_RATIO, Objective, Ratio, ResponseLoss, ResponseValues};

/// The mean log ratio of a response is clamped from above to this, with zero gradient beyond it.
const MAX_SEQUENCE_LOG_RATIO: f64 = 10.0;

/// The loss of a token with the ratio r, the log ratio d and the advantage A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surrogate {
    /// `max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high))`, and the dual clip (PPO).
    #[default]
    Clip,
    /// `-A r`.
    Unclipped,
    /// `-A clip(r, 1 - clip_low, 1 + clip_high) logp`, without a gradient through the ratio (CISPO, MiniMax-M1, arXiv 2506.13585,
    /// equations 4 and 5).
    Cispo,
    /// `-A (4 / tau) sigmoid(tau (r - 1))`, `tau` one of [`SapoTemperatures`] (SAPO, arXiv 2511.20347).
    Sapo,
    /// `-A exp(mean over the response of d')`: `d' = min(d, clip_high)` where A > 0, `max(d, -clip_low)` where A < 0, so that the
    /// clips are of log ratios (GMPO, arXiv 2507.20673). The mean is at most 10.
    Gmpo,
}

/// The temperatures of [`Surrogate::Sapo`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SapoTemperatures {
    /// Where A > 0.
    pub positive: f64,
    /// Where A is not above 0.
    pub negative: f64,
}

impl Default for SapoTemperatures {
    /// Those of the paper.
    fn default() -> Self {
        Self { positive: 1.0, negative: 1.05 }
    }
}

/// A token's surrogate.
pub(super) struct TokenLoss {
    pub(super) ratio: f64,
    pub(super) loss: f64,
    pub(super) d_log_prob: f64,
    pub(super) clipped: bool,
    pub(super) dual_clipped: bool,
}

impl Objective {
    /// Whether each token's surrogate depends on all log-probs of its response, by 1 / length.
    pub(crate) fn is_of_response(&self) -> bool {
        self.ratio == Ratio::Sequence || self.surrogate == Surrogate::Gmpo
    }

    /// An advantage by the weight of its sign.
    pub(super) fn weighted(&self, advantage: f64) -> f64 {
        advantage * if advantage > 0.0 { self.positive_weight } else { self.negative_weight }
    }

    /// The surrogates of a response's tokens. Of a ratio of the response, the derivative by one token's log-prob is that of the
    /// response's whole surrogate times its length.
    pub(super) fn tokens(&self, log_ratios: &[f64], values: &ResponseValues<'_>) -> Vec<TokenLoss> {
        let advantage = self.weighted(values.advantage);
        let of_tokens = -MAX_LOG_RATIO..=MAX_LOG_RATIO;
        let of_response = f64::MIN..=MAX_SEQUENCE_LOG_RATIO;
        let mean = |log_ratios: &[f64]| log_ratios.iter().sum::<f64>() / log_ratios.len().max(1) as f64;
        let each = |token: &dyn Fn(f64, f64, f64) -> TokenLoss| -> Vec<TokenLoss> {
            let of_token = |index: usize| values.token_advantages.map(|advantages| self.weighted(advantages[index]));
            let tokens = log_ratios.iter().zip(values.log_probs).enumerate();
            let loss = |(index, (d, log_prob)): (usize, (&f64, &f32))| {
                token(*d, f64::from(*log_prob), of_token(index).unwrap_or(advantage))
            };
            tokens.map(loss).collect()
        };
        match (self.surrogate, self.ratio) {
            (Surrogate::Clip, Ratio::Token) => each(&|d, _, advantage| self.clip(d, of_tokens.clone(), advantage)),
            (Surrogate::Clip, Ratio::Sequence) => {
                let mean = mean(log_ratios);
                each(&|_, _, _| self.clip(mean, of_response.clone(), advantage))
            }
            (Surrogate::Unclipped, _) => each(&|d, _, advantage| unclipped(d, &of_tokens, advantage)),
            (Surrogate::Cispo, _) => each(&|d, log_prob, advantage| self.cispo(d, log_prob, advantage)),
            (Surrogate::Sapo, _) => each(&|d, _, advantage| self.sapo(d, advantage)),
            (Surrogate::Gmpo, _) => {
                let held = |d: f64| match advantage {
                    gain if gain > 0.0 => d.min(self.clip_high),
                    loss if loss < 0.0 => d.max(-self.clip_low),
                    _ => d,
                };
                let mean = mean(&log_ratios.iter().map(|d| held(*d)).collect::<Vec<_>>());
                each(&|d, _, _| {
                    let token = unclipped(mean, &of_response, advantage);
                    let clipped = held(d) != d;
                    let d_log_prob = if clipped { 0.0 } else { token.d_log_prob };
                    TokenLoss { ratio: clamped_exp(d, &of_tokens), clipped, d_log_prob, ..token }
                })
            }
        }
    }

    fn clip(&self, log_ratio: f64, bounds: RangeInclusive<f64>, advantage: f64) -> TokenLoss {
        let inside = bounds.contains(&log_ratio);
        let ratio = clamped_exp(log_ratio, &bounds);
        let unclipped = -advantage * ratio;
        let clipped = -advantage * ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
        let is_clipped = clipped > unclipped;
        let surrogate = unclipped.max(clipped);
        let bound = -advantage * self.dual_clip;
        let dual_clipped = self.dual_clip > 0.0 && advantage < 0.0 && bound < surrogate;
        TokenLoss {
            ratio,
            loss: if dual_clipped { bound } else { surrogate },
            // d ratio / d logp = ratio; zero where a clamp is active.
            d_log_prob: if is_clipped || dual_clipped || !inside { 0.0 } else { unclipped },
            clipped: is_clipped,
            dual_clipped,
        }
    }

    fn cispo(&self, log_ratio: f64, log_prob: f64, advantage: f64) -> TokenLoss {
        let ratio = clamped_exp(log_ratio, &(-MAX_LOG_RATIO..=MAX_LOG_RATIO));
        let held = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
        let d_log_prob = -advantage * held;
        TokenLoss { ratio, loss: d_log_prob * log_prob, d_log_prob, clipped: held != ratio, dual_clipped: false }
    }

    fn sapo(&self, log_ratio: f64, advantage: f64) -> TokenLoss {
        let bounds = -MAX_LOG_RATIO..=MAX_LOG_RATIO;
        let ratio = clamped_exp(log_ratio, &bounds);
        let temperature = if advantage > 0.0 { self.sapo.positive } else { self.sapo.negative };
        let gate = 1.0 / (1.0 + (-temperature * (ratio - 1.0)).exp());
        let slope = if bounds.contains(&log_ratio) { 4.0 * gate * (1.0 - gate) * ratio } else { 0.0 };
        TokenLoss {
            ratio,
            loss: -advantage * gate * 4.0 / temperature,
            d_log_prob: -advantage * slope,
            clipped: false,
            dual_clipped: false,
        }
    }

    /// Adds `covariance.kl_coefficient |logp - logp_old|` of the penalised tokens: the loss of KL-Cov (arXiv 2505.22617).
    pub(super) fn penalise(
        &self,
        values: &ResponseValues<'_>,
        log_ratios: &[f64],
        weight: f64,
        total: &mut ResponseLoss,
    ) {
        let Some(penalised) = values.penalised else { return };
        assert_eq!(penalised.len(), log_ratios.len(), "one mark per token");
        let coefficient = self.covariance.kl_coefficient * weight;
        for ((log_ratio, _), d) in
            log_ratios.iter().zip(penalised).zip(&mut total.d_log_probs).filter(|((_, penalised), _)| **penalised)
        {
            total.loss += coefficient * log_ratio.abs();
            // The derivative of the absolute value is 0 at 0, as in PyTorch.
            *d += if *log_ratio == 0.0 { 0.0 } else { coefficient * log_ratio.signum() };
        }
    }
}

fn unclipped(log_ratio: f64, bounds: &RangeInclusive<f64>, advantage: f64) -> TokenLoss {
    let ratio = clamped_exp(log_ratio, bounds);
    let loss = -advantage * ratio;
    let d_log_prob = if bounds.contains(&log_ratio) { loss } else { 0.0 };
    TokenLoss { ratio, loss, d_log_prob, clipped: false, dual_clipped: false }
}

fn clamped_exp(log_ratio: f64, bounds: &RangeInclusive<f64>) -> f64 {
    log_ratio.clamp(*bounds.start(), *bounds.end()).exp()
}
