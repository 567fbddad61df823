//! The metrics of one training step: one line of `metrics.jsonl`.

use bupo_core::PolicySite;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::warning::Warning;
use crate::phases::GuardAction;
use crate::rollout::RolloutMetrics;

/// Earlier names of metrics, written beside the present ones: present name, earlier name.
const EARLIER_KEYS: [(&str, &str); 2] =
    [("sampling_logp_difference", "sampling_gap"), ("sampling_logp_difference_max", "sampling_gap_max")];

/// One line of `metrics.jsonl`. Means are over the step's responses or response tokens. Numbers that are not finite are null
/// in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// From 1.
    pub step: usize,
    /// The phase's number, from 1.
    pub phase: usize,
    /// The policy trained.
    pub site: PolicySite,
    /// The responses sampled.
    #[serde(flatten)]
    pub rollout: RolloutMetrics,
    /// Groups trained on.
    pub groups: usize,
    /// Responses so far that a scorer failed to grade.
    pub grading_failures: usize,
    /// The updates made.
    #[serde(flatten)]
    pub update: UpdateMetrics,
    /// The policies before the step's updates.
    #[serde(flatten)]
    pub policy: PolicyMetrics,
    /// Problems of this step that do not stop the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// What the phase guard did after this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardAction>,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// Durations.
    #[serde(flatten)]
    pub timing: Timing,
}

/// Means over a step's updates, each before it was made. `None` in a step without updates, null in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateMetrics {
    /// Mean entropy in nats of the trained policy at the response tokens, before the step.
    pub entropy: Option<f64>,
    /// Mean of `logp_old - logp` at the trained site over the step's updates. In a phase on the full policy it estimates
    /// KL(old || new); in a phase on an internal policy it does not, because the tokens are samples of the full policy.
    pub kl: Option<f64>,
    /// Mean of the estimated KL to the frozen reference at the trained site, if the loss has one; an estimate in the same cases as
    /// `kl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_kl: Option<f64>,
    /// Mean loss.
    pub loss: Option<f64>,
    /// Mean global norm of the gradients before clipping.
    pub grad_norm: Option<f64>,
    /// Share of tokens whose ratio was clipped.
    pub clip_ratio: Option<f64>,
    /// Share of tokens bounded by the dual clip.
    pub dual_clip_ratio: Option<f64>,
    /// The importance ratio furthest from 1 in the first update, where every ratio is 1 exactly.
    pub first_ratio: Option<f64>,
    /// The importance ratio furthest from 1 in any update.
    pub extreme_ratio: Option<f64>,
    /// Mean importance ratio of the full policy, its probability in the trainer before the step over that in the engine that
    /// sampled, before ratios are cut off; if the loss is corrected by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance_ratio_mean: Option<f64>,
    /// The standard deviation of these ratios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance_ratio_std: Option<f64>,
    /// The share of tokens whose ratio is above `rollout.correction.max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance_ratio_cut: Option<f64>,
    /// Updates skipped because their loss or gradient was not finite.
    pub skipped_updates: usize,
}

/// The full policy and the trained internal policy on a few of the step's responses, before its updates. `None` if there are no
/// responses to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "PolicyMetricsLine")]
pub struct PolicyMetrics {
    /// Mean absolute difference in nats between the log-probs of the same tokens at sampling and in the training forward pass;
    /// both are of the full policy, so only rounding should differ.
    pub sampling_logp_difference: Option<f64>,
    /// The largest such difference.
    pub sampling_logp_difference_max: Option<f64>,
    /// Mean entropy in nats of the full policy, if an internal policy is trained; otherwise the full policy is the trained one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_full: Option<f64>,
    /// KL(trained policy || full policy) in nats per token, exact over the vocabulary, if an internal policy is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_to_full: Option<f64>,
    /// Estimate of KL(full policy before training || now) in nats per token, if an internal policy is trained: how much less
    /// probable the full policy finds its responses before training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
}

/// Seconds of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Prompt and response tokens of the step per second.
    pub tokens_per_second: f64,
    /// Seconds spent generating.
    pub seconds_rollout: f64,
    /// Seconds spent on old log-probs and updates.
    pub seconds_update: f64,
}

/// [`PolicyMetrics`] as a line has them, under their present or their earlier names.
#[derive(Deserialize)]
struct PolicyMetricsLine {
    sampling_logp_difference: Option<f64>,
    sampling_gap: Option<f64>,
    sampling_logp_difference_max: Option<f64>,
    sampling_gap_max: Option<f64>,
    entropy_full: Option<f64>,
    kl_to_full: Option<f64>,
    drift: Option<f64>,
}

impl From<PolicyMetricsLine> for PolicyMetrics {
    fn from(line: PolicyMetricsLine) -> Self {
        Self {
            sampling_logp_difference: line.sampling_logp_difference.or(line.sampling_gap),
            sampling_logp_difference_max: line.sampling_logp_difference_max.or(line.sampling_gap_max),
            entropy_full: line.entropy_full,
            kl_to_full: line.kl_to_full,
            drift: line.drift,
        }
    }
}

impl StepMetrics {
    /// The line of `metrics.jsonl`, earlier names of metrics included.
    pub(super) fn to_line(&self) -> serde_json::Result<Value> {
        let mut line = serde_json::to_value(self)?;
        if let Some(line) = line.as_object_mut() {
            for (key, earlier) in EARLIER_KEYS {
                if let Some(value) = line.get(key).cloned() {
                    line.insert(earlier.into(), value);
                }
            }
        }
        Ok(line)
    }
}

/// Reads null as NaN: JSON cannot represent numbers that are not finite.
pub(crate) fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_present_and_by_earlier_names() -> Result<(), serde_json::Error> {
        let policy = |text: &str| serde_json::from_str::<PolicyMetrics>(text);
        let both =
            policy(r#"{"sampling_logp_difference": 0.5, "sampling_gap": 0.5, "sampling_logp_difference_max": null}"#)?;
        let earlier = policy(r#"{"sampling_gap": 0.5}"#)?;
        assert_eq!((both.sampling_logp_difference, both.sampling_logp_difference_max), (Some(0.5), None));
        assert_eq!(both, earlier);
        Ok(())
    }
}
