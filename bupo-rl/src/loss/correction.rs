//! The correction of a loss for responses that another program sampled, whose probabilities are not exactly the trainer's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Log ratios are clamped to this absolute value before `exp`.
const MAX_LOG_RATIO: f64 = 20.0;

/// How tokens are weighted by the importance ratio of the full policy: its probability in the trainer, before the step, over that
/// in the engine that sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CorrectionMode {
    /// Not at all.
    Off,
    /// Each token by its ratio, at most `max` (verl's truncated importance sampling).
    TokenTruncate,
    /// Each token by the ratio of its response, the product of its tokens' ratios, at most `max`.
    SequenceTruncate,
    /// The same, with weight 0 for the tokens of a response whose ratio is above `max` (TRL's `sequence_mask`).
    SequenceMask,
}

/// A mode with its limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// How tokens are weighted.
    pub mode: CorrectionMode,
    /// The largest ratio, above 0.
    pub max: f64,
}

/// The weights of one response's tokens in the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenWeights {
    /// One per token.
    pub weights: Vec<f64>,
    /// The ratios, before any is cut off at the limit.
    pub ratios: RatioStats,
}

/// Sums over tokens of importance ratios.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RatioStats {
    /// Tokens.
    pub tokens: usize,
    /// The sum of ratios.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_of_squares: f64,
    /// Tokens whose ratio is above the limit.
    pub cut: usize,
}

impl fmt::Display for CorrectionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::TokenTruncate => "token-truncate",
            Self::SequenceTruncate => "sequence-truncate",
            Self::SequenceMask => "sequence-mask",
        })
    }
}

impl CorrectionMode {
    /// The default limit: 2 where ratios are truncated (verl), 3 where responses are masked (TRL).
    pub fn default_max(self) -> f64 {
        if self == Self::SequenceMask { 3.0 } else { 2.0 }
    }
}

impl Correction {
    /// The weights of a response's tokens, constants in the loss, from their log-probs under the full policy: the trainer's before
    /// the step, and the engine's when it sampled them.
    ///
    /// # Panics
    /// If the two differ in length.
    pub fn weights(&self, trainer: &[f32], engine: &[f32]) -> TokenWeights {
        assert_eq!(trainer.len(), engine.len(), "one log-prob per token");
        let log_ratios =
            || trainer.iter().zip(engine).map(|(trainer, engine)| f64::from(*trainer) - f64::from(*engine));
        let ratio = |log_ratio: f64| log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp();
        let ratios: Vec<f64> = match self.mode {
            CorrectionMode::Off | CorrectionMode::TokenTruncate => log_ratios().map(ratio).collect(),
            CorrectionMode::SequenceTruncate | CorrectionMode::SequenceMask => {
                vec![ratio(log_ratios().sum()); trainer.len()]
            }
        };
        let weight = |ratio: f64| match self.mode {
            CorrectionMode::Off => 1.0,
            CorrectionMode::SequenceMask if ratio > self.max => 0.0,
            CorrectionMode::TokenTruncate | CorrectionMode::SequenceTruncate | CorrectionMode::SequenceMask => {
                ratio.min(self.max)
            }
        };
        let stats = RatioStats {
            tokens: ratios.len(),
            sum: ratios.iter().sum(),
            sum_of_squares: ratios.iter().map(|ratio| ratio * ratio).sum(),
            cut: ratios.iter().filter(|ratio| **ratio > self.max).count(),
        };
        TokenWeights { weights: ratios.into_iter().map(weight).collect(), ratios: stats }
    }
}

impl RatioStats {
    /// Adds another response's sums.
    pub fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.cut += other.cut;
    }

    /// The mean ratio; `None` without tokens.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum / self.tokens as f64)
    }

    /// The standard deviation of the ratios; `None` without tokens.
    pub fn std(&self) -> Option<f64> {
        let mean = self.mean()?;
        Some((self.sum_of_squares / self.tokens as f64 - mean * mean).max(0.0).sqrt())
    }

    /// The share of tokens whose ratio is above the limit; `None` without tokens.
    pub fn cut_share(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.cut as f64 / self.tokens as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_cut_at_the_limit_after_they_are_counted() {
        let of = |mode, trainer: &[f32], engine: &[f32]| Correction { mode, max: 2.0 }.weights(trainer, engine);
        let (trainer, engine) = ([-1.0, -1.0, -2.0], [-1.0, -2.0, -1.0]);
        let token = of(CorrectionMode::TokenTruncate, &trainer, &engine);
        assert_eq!(token.weights, [1.0, 2.0, (-1.0f64).exp()]);
        assert_eq!((token.ratios.tokens, token.ratios.cut), (3, 1));
        assert_eq!(token.ratios.mean(), Some((1.0 + 1f64.exp() + (-1f64).exp()) / 3.0));
        // Differences cancel within the response.
        assert_eq!(of(CorrectionMode::SequenceTruncate, &trainer, &engine).weights, [1.0; 3]);
        assert_eq!(of(CorrectionMode::SequenceTruncate, &[-1.0; 2], &[-2.0; 2]).weights, [2.0; 2]);
        let masked = of(CorrectionMode::SequenceMask, &[-1.0; 2], &[-2.0; 2]);
        assert_eq!((masked.weights, masked.ratios.cut), (vec![0.0; 2], 2));
        assert_eq!(of(CorrectionMode::SequenceMask, &[-2.0; 2], &[-1.0; 2]).weights, [(-2.0f64).exp(); 2]);
        let off = of(CorrectionMode::Off, &trainer, &engine);
        assert_eq!((off.weights, off.ratios), (vec![1.0; 3], token.ratios));
        // Clamped to exp(20) before it is cut.
        let far = of(CorrectionMode::TokenTruncate, &[0.0], &[-100.0]);
        assert_eq!((far.weights[0], far.ratios.sum), (2.0, 20f64.exp()));
        assert_eq!(RatioStats::default().mean(), None);
    }
}
