//! An entropy bonus whose coefficient follows the entropy.

use serde::{Deserialize, Serialize};

/// Adaptive entropy control (Skywork-OR1, arXiv 2505.22312): in a step whose entropy is at most the target, the bonus has
/// the coefficient c, otherwise none; then c is raised by `step` if the entropy is below the target, or lowered by it, and held
/// between 0 and `max`, a bound that the paper does not have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EntropyTarget {
    /// The mean entropy in nats of the trained policy; 0 for no target.
    pub entropy: f64,
    /// What the coefficient changes by after a step.
    pub step: f64,
    /// The largest coefficient.
    pub max: f64,
}

impl Default for EntropyTarget {
    fn default() -> Self {
        Self { entropy: 0.0, step: 0.005, max: 0.1 }
    }
}

impl EntropyTarget {
    /// Whether there is a target.
    pub fn is_on(&self) -> bool {
        self.entropy > 0.0
    }

    /// The coefficient of the bonus in a step with this entropy before its updates.
    pub fn applied(&self, coefficient: f64, entropy: f64) -> f64 {
        if entropy <= self.entropy { coefficient } else { 0.0 }
    }

    /// The coefficient c after that step. An entropy that is not a number leaves it.
    pub fn next(&self, coefficient: f64, entropy: f64) -> f64 {
        let change = match entropy.partial_cmp(&self.entropy) {
            Some(std::cmp::Ordering::Less) => self.step,
            Some(std::cmp::Ordering::Greater) => -self.step,
            Some(std::cmp::Ordering::Equal) | None => 0.0,
        };
        (coefficient + change).clamp(0.0, self.max)
    }
}
