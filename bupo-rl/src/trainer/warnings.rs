//! Warnings of a training step: problems that do not stop the run.

use serde::{Deserialize, Serialize};

use super::metrics::{PolicyMetrics, UpdateMetrics};

/// Mean difference in nats between log-probs at sampling and in training above which a step warns; rounding in f32 is 1e-7.
const MAX_LOGP_DIFFERENCE: f64 = 0.02;
/// The importance ratio, or its inverse, above which a step warns.
const MAX_RATIO: f64 = 10.0;

/// A problem that does not stop the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// Its kind.
    pub kind: WarningKind,
    /// What was measured, what it means, and how to fix it.
    pub text: String,
}

/// Kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// Log-probs at sampling and in training differ.
    #[serde(alias = "sampling_gap")]
    SamplingLogpDifference,
    /// An importance ratio is far from 1.
    ImportanceRatio,
    /// Updates were skipped because their loss or gradient was not finite.
    SkippedUpdates,
    /// Little memory was free, so batches were made smaller.
    Memory,
}

/// Warnings of a step's policies and updates.
pub(super) fn policy_warnings(policy: &PolicyMetrics, update: &UpdateMetrics) -> Vec<Warning> {
    let (mean, max) = (policy.sampling_logp_difference, policy.sampling_logp_difference_max);
    let (extreme_ratio, skipped) = (update.extreme_ratio, update.skipped_updates);
    let mut warnings = Vec::new();
    let mut warn = |kind, text| warnings.push(Warning { kind, text });
    if mean > MAX_LOGP_DIFFERENCE {
        warn(
            WarningKind::SamplingLogpDifference,
            format!(
                "log-probs at sampling and in training differ by {mean:.3} nats on average, {max:.2} at most: the responses are not \
                 samples of the trained policy, and importance ratios do not correct for it; set dtype = \"f32\""
            ),
        );
    }
    if !(MAX_RATIO.recip()..=MAX_RATIO).contains(&extreme_ratio) {
        warn(
            WarningKind::ImportanceRatio,
            format!(
                "an importance ratio reached {extreme_ratio:.3}: the step's updates moved the policy far from the one that sampled the \
                 responses, and clipping dominates the gradient; lower optimizer.learning_rate, or raise \
                 update.mini_batch_prompts for fewer updates per step"
            ),
        );
    }
    if skipped > 0 {
        warn(
            WarningKind::SkippedUpdates,
            format!(
                "{skipped} updates were skipped: their loss or gradient was not finite; their batches are saved in skipped/"
            ),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_beyond_their_limits_warn() {
        let kinds = |mean: f64, extreme_ratio: f64, skipped_updates: usize| -> Vec<WarningKind> {
            let policy = PolicyMetrics {
                sampling_logp_difference: mean,
                sampling_logp_difference_max: mean,
                kl_to_full: None,
                drift: None,
            };
            let update = UpdateMetrics {
                entropy: 0.0,
                kl: 0.0,
                ref_kl: None,
                loss: 0.0,
                grad_norm: 0.0,
                clip_ratio: 0.0,
                dual_clip_ratio: 0.0,
                first_ratio: 1.0,
                extreme_ratio,
                skipped_updates,
            };
            policy_warnings(&policy, &update).into_iter().map(|warning| warning.kind).collect()
        };
        assert_eq!(kinds(1e-6, 1.7, 0), []);
        assert_eq!(kinds(0.019, 0.11, 0), []);
        assert_eq!(kinds(0.021, 1.0, 0), [WarningKind::SamplingLogpDifference]);
        assert_eq!(kinds(0.0, 0.09, 0), [WarningKind::ImportanceRatio]);
        assert_eq!(kinds(0.0, 11.0, 2), [WarningKind::ImportanceRatio, WarningKind::SkippedUpdates]);
        assert_eq!(kinds(0.0, f64::NAN, 0), [WarningKind::ImportanceRatio]);
    }
}
