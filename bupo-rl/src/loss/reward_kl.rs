//! A KL penalty in the reward.

use serde::{Deserialize, Serialize};

use super::clipped::KlEstimator;

/// The KL penalty in the reward of a response: its reward less `coefficient` times the sum over its tokens of an estimate of the
/// KL between the policy before the step and the model before training, at the trained site (verl's `use_kl_in_reward`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardKl {
    /// The penalty's weight; 0 disables it.
    pub coefficient: f64,
    /// The estimator.
    pub estimator: KlEstimator,
}

impl Default for RewardKl {
    fn default() -> Self {
        Self { coefficient: 0.0, estimator: KlEstimator::K1 }
    }
}

impl RewardKl {
    /// Whether there is a penalty.
    pub(crate) fn is_on(&self) -> bool {
        self.coefficient != 0.0
    }

    /// What the reward of each token loses by it, where tokens have rewards of their own.
    ///
    /// # Panics
    /// If the two differ in length.
    pub fn token_penalties(&self, old_log_probs: &[f32], ref_log_probs: &[f32]) -> Vec<f64> {
        self.estimates(old_log_probs, ref_log_probs).map(|kl| self.coefficient * kl).collect()
    }

    /// What a response's reward loses by it.
    ///
    /// # Panics
    /// If the two differ in length.
    pub fn penalty(&self, old_log_probs: &[f32], ref_log_probs: &[f32]) -> f64 {
        self.coefficient * self.estimates(old_log_probs, ref_log_probs).sum::<f64>()
    }

    fn estimates(&self, old_log_probs: &[f32], ref_log_probs: &[f32]) -> impl Iterator<Item = f64> {
        assert_eq!(old_log_probs.len(), ref_log_probs.len(), "one reference log-prob per token");
        let pairs = old_log_probs.iter().zip(ref_log_probs);
        pairs.map(|(old, reference)| self.estimator.of(f64::from(*old), f64::from(*reference)).0)
    }
}
