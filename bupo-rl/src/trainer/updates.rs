//! Statistics of a step's updates.

use bupo_eval::mean_and_std;

use super::metrics::UpdateMetrics;
use super::mini_batch::MiniBatch;
use crate::loss::RatioStats;
use crate::update::UpdateStats;

/// The updates of one step.
pub(super) struct Updates {
    stats: Vec<UpdateStats>,
    /// Sum of the trained policy's entropies before the step at the response tokens, except the first update's.
    entropy_sum: f64,
}

impl Updates {
    pub(super) fn new(stats: Vec<UpdateStats>, batches: &[MiniBatch]) -> Self {
        Self { stats, entropy_sum: batches.iter().map(|batch| batch.entropy_sum).sum() }
    }

    /// Means over the updates. `has_reference`: whether the loss has a KL term to a reference.
    pub(super) fn metrics(&self, has_reference: bool) -> UpdateMetrics {
        let mut importance = RatioStats::default();
        self.stats.iter().for_each(|update| importance.add(&update.importance));
        UpdateMetrics {
            entropy: self.entropy(),
            policy_kl: self.mean(|update| update.kl),
            ref_kl: self.mean(|update| update.ref_kl).filter(|_| has_reference),
            loss: self.mean(|update| update.loss),
            grad_norm: self.mean(|update| update.grad_norm),
            clip_ratio: self.mean(|update| update.clip_ratio),
            clip_ratio_low: self.mean(|update| update.clip_ratio_low),
            clip_ratio_high: self.mean(|update| update.clip_ratio_high),
            dual_clip_ratio: self.mean(|update| update.dual_clip_ratio),
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
        let tokens: usize = self.stats.iter().map(|update| update.tokens).sum();
        Some((first.entropy * first.tokens as f64 + self.entropy_sum) / tokens.max(1) as f64)
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
        let metrics = Updates::new(Vec::new(), &[]).metrics(true);
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
