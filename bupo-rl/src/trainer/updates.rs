//! Statistics of a step's updates.

use bupo_eval::mean_and_std;

use super::metrics::UpdateMetrics;
use super::mini_batch::MiniBatch;
use crate::loss::RatioStats;
use crate::update::{CriticStats, UpdateStats};

/// The updates of one step.
pub(super) struct Updates {
    stats: Vec<UpdateStats>,
    /// Those of the critic.
    critic: Vec<CriticStats>,
    /// Sum of the trained policy's entropies before the step at the response tokens of the mini-batches that have one.
    entropy_sum: f64,
    /// Whether the first update computed the entropies of its mini-batch itself.
    first_has_entropy: bool,
    /// Response tokens of all mini-batches.
    tokens: usize,
    /// What the loss has: a KL to a reference, chosen tokens, a moved coefficient of the entropy bonus.
    loss: LossParts,
}

/// Parts of a loss that have metrics of their own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LossParts {
    pub(super) has_reference: bool,
    pub(super) chooses_tokens: bool,
    /// The coefficient of the entropy bonus, if it follows a target.
    pub(super) entropy_coefficient: Option<f64>,
    /// Whether further sites have a divergence from the full policy.
    pub(super) has_divergence: bool,
}

impl Updates {
    pub(super) fn new(stats: Vec<UpdateStats>, batches: &[MiniBatch], loss: LossParts) -> Self {
        Self {
            critic: stats.iter().filter_map(|update| update.critic).collect(),
            stats,
            entropy_sum: batches.iter().map(|batch| batch.entropy_sum.unwrap_or(0.0)).sum(),
            first_has_entropy: batches.first().is_some_and(|batch| batch.entropy_sum.is_none()),
            tokens: batches.iter().map(|batch| batch.size.tokens()).sum(),
            loss,
        }
    }

    /// Those of a step that trains the critic alone.
    pub(super) fn of_critic(critic: Vec<CriticStats>) -> Self {
        Self { critic, ..Self::new(Vec::new(), &[], LossParts::default()) }
    }

    /// The updates of the critic.
    pub(super) fn critic(&self) -> &[CriticStats] {
        &self.critic
    }

    /// Means over the updates.
    pub(super) fn metrics(&self) -> UpdateMetrics {
        let mut importance = RatioStats::default();
        self.stats.iter().for_each(|update| importance.add(&update.importance));
        UpdateMetrics {
            entropy: self.entropy(),
            policy_kl: self.mean(|update| update.kl),
            ref_kl: self.mean(|update| update.ref_kl).filter(|_| self.loss.has_reference),
            loss: self.mean(|update| update.loss),
            grad_norm: self.mean(|update| update.grad_norm),
            clip_ratio: self.mean(|update| update.clip_ratio),
            clip_ratio_low: self.mean(|update| update.clip_ratio_low),
            clip_ratio_high: self.mean(|update| update.clip_ratio_high),
            dual_clip_ratio: self.mean(|update| update.dual_clip_ratio),
            left_out_ratio: self.mean(|update| update.left_out_ratio).filter(|_| self.loss.chooses_tokens),
            penalised_ratio: self.mean(|update| update.penalised_ratio).filter(|_| self.loss.chooses_tokens),
            entropy_coefficient: self.loss.entropy_coefficient,
            site_divergence: self.mean(|update| update.divergence).filter(|_| self.loss.has_divergence),
            first_ratio: self.stats.first().map(|update| update.extreme_ratio),
            extreme_ratio: self.extreme_ratio(),
            importance_ratio_mean: importance.mean(),
            importance_ratio_std: importance.std(),
            importance_ratio_cut: importance.cut_share(),
            skipped_updates: self.stats.iter().filter(|update| update.skipped).count(),
        }
    }

    fn mean(&self, value: fn(&UpdateStats) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.stats.iter().map(value).collect();
        (!values.is_empty()).then(|| mean_and_std(&values).0)
    }

    /// The trained policy's mean entropy before the step.
    fn entropy(&self) -> Option<f64> {
        let first = self.stats.first()?;
        let of_first = if self.first_has_entropy { first.entropy * first.tokens as f64 } else { 0.0 };
        Some((of_first + self.entropy_sum) / self.tokens.max(1) as f64)
    }

    fn extreme_ratio(&self) -> Option<f64> {
        let further =
            |extreme: f64, ratio: f64| if (ratio - 1.0).abs() > (extreme - 1.0).abs() { ratio } else { extreme };
        self.stats.iter().map(|update| update.extreme_ratio).reduce(further)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_updates_has_no_metrics_of_them() -> serde_json::Result<()> {
        let metrics = Updates::new(Vec::new(), &[], LossParts::default()).metrics();
        let json = serde_json::to_value(&metrics)?;
        for key in [
            "entropy",
            "policy_kl",
            "loss",
            "grad_norm",
            "clip_ratio",
            "clip_ratio_low",
            "clip_ratio_high",
            "dual_clip_ratio",
            "first_ratio",
            "extreme_ratio",
        ] {
            assert!(json[key].is_null(), "{key}");
        }
        assert_eq!(serde_json::from_value::<UpdateMetrics>(json)?, metrics);
        Ok(())
    }
}
