//! The metrics of one training step: one line of `metrics.jsonl`.

use bupo_core::PolicySite;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::critic::CriticMetrics;
use super::warning::Warning;
use crate::phases::GuardAction;
use crate::rollout::RolloutMetrics;

/// Earlier names of metrics, written beside the present ones: present name, earlier name.
const EARLIER_KEYS: [(&str, &str); 3] = [
    ("sampling_logp_difference", "sampling_gap"),
    ("sampling_logp_difference_max", "sampling_gap_max"),
    ("policy_kl", "kl"),
];

/// One line of `metrics.jsonl`. Means are over the step's responses or response tokens. Numbers that are not finite are null
/// in the file. A line is written with the earlier names of metrics as well, and read by either.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
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
    /// For problems from files: passes over the training rows so far, prompts drawn over rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<f64>,
    /// Training rows that are drawn no more, with `data.drop_after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems_dropped: Option<usize>,
    /// Responses so far that a scorer failed to grade.
    pub grading_failures: usize,
    /// The updates made.
    #[serde(flatten)]
    pub update: UpdateMetrics,
    /// The critic, if there is one.
    #[serde(flatten)]
    pub critic: Option<CriticMetrics>,
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
    /// The process's largest resident memory so far, in bytes, where the system says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
}

/// Means over a step's updates, each before it was made. `None` in a step without updates, null in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateMetrics {
    /// Mean entropy in nats of the trained policy at the response tokens, before the step.
    pub entropy: Option<f64>,
    /// Mean of `logp_old - logp` at the trained site over the step's updates. In a phase on the full policy it estimates
    /// KL(old || new); in a phase on an internal policy it does not, because the tokens are samples of the full policy.
    pub policy_kl: Option<f64>,
    /// Mean of the estimated KL to the frozen reference at the trained site, if the loss has one; an estimate in the same cases as
    /// `policy_kl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_kl: Option<f64>,
    /// Mean loss.
    pub loss: Option<f64>,
    /// Mean global norm of the gradients before clipping.
    pub grad_norm: Option<f64>,
    /// Share of tokens whose ratio was clipped.
    pub clip_ratio: Option<f64>,
    /// Share of tokens clipped at the lower bound, `1 - clip_low`; with the next one, the parts of `clip_ratio`.
    #[serde(default)]
    pub clip_ratio_low: Option<f64>,
    /// Share of tokens clipped at the upper bound, `1 + clip_high`.
    #[serde(default)]
    pub clip_ratio_high: Option<f64>,
    /// Share of tokens bounded by the dual clip.
    pub dual_clip_ratio: Option<f64>,
    /// Share of tokens without a surrogate, if tokens are chosen by entropy or covariance: those left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_ratio: Option<f64>,
    /// Share of tokens penalised for their covariance, if tokens are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalised_ratio: Option<f64>,
    /// The coefficient of the entropy bonus in this step, if it follows `objective.entropy_target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_coefficient: Option<f64>,
    /// Mean divergence of the phase's further sites from the full policy, summed over these sites, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_divergence: Option<f64>,
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
    /// The parts of these two. `None` in lines of earlier versions.
    #[serde(flatten)]
    pub parts: StepParts,
}

/// Seconds of the parts of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepParts {
    /// Sampling; the part of `seconds_rollout` that is neither grading nor hand-over. Waiting for servers that sample ahead counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_sampling: Option<f64>,
    /// Grading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_grading: Option<f64>,
    /// Handing weights over to servers, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_hand_over: Option<f64>,
    /// Log-probs before the step and of the reference. The first update computes its own old log-probs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_old_log_probs: Option<f64>,
    /// Forward and backward passes and optimizer steps of the updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_gradient_steps: Option<f64>,
}

impl Serialize for StepMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The derived function, which shadows this one.
        let mut line = Self::serialize(self, serde_json::value::Serializer).map_err(S::Error::custom)?;
        if let Some(line) = line.as_object_mut() {
            for (key, earlier) in EARLIER_KEYS {
                if let Some(value) = line.get(key).cloned() {
                    line.insert(earlier.into(), value);
                }
            }
        }
        line.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StepMetrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut line = Map::deserialize(deserializer)?;
        for (key, earlier) in EARLIER_KEYS {
            if let Some(value) = line.remove(earlier) {
                line.entry(key).or_insert(value);
            }
        }
        Self::deserialize(Value::Object(line)).map_err(D::Error::custom)
    }
}

/// Reads null as NaN: JSON cannot represent numbers that are not finite.
pub(crate) fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A line as an earlier version wrote it.
    fn earlier() -> Value {
        json!({
            "step": 3, "phase": 1, "site": "layer:2", "reward": 0.5, "reward_error": 0.1, "reward_std": 0.2,
            "frac_reward_zero_std": 0.0, "responses": 8, "response_length": 9.5, "truncated": 0.0, "empty": 0.0,
            "perplexity": 1.5, "groups": 2, "grading_failures": 0, "entropy": 0.4, "kl": -0.01, "loss": 0.0, "grad_norm": 1.0,
            "clip_ratio": 0.25, "dual_clip_ratio": 0.0, "first_ratio": 1.0, "extreme_ratio": 1.1, "skipped_updates": 0,
            "sampling_gap": 0.5, "sampling_gap_max": null, "learning_rate": 1e-4, "tokens_per_second": 9.0,
            "seconds_rollout": 1.0, "seconds_update": 2.0,
        })
    }

    #[test]
    fn lines_are_read_by_present_and_by_earlier_names_and_written_with_both() -> Result<(), serde_json::Error> {
        let read: StepMetrics = serde_json::from_value(earlier())?;
        assert_eq!((read.update.policy_kl, read.update.clip_ratio_low), (Some(-0.01), None));
        assert_eq!(read.policy.sampling_logp_difference, Some(0.5));
        assert_eq!((read.timing.parts, read.memory_peak, read.epoch), (StepParts::default(), None, None));
        let line = serde_json::to_value(&read)?;
        for (key, earlier) in EARLIER_KEYS {
            assert!(line.get(key).is_some() && line[key] == line[earlier], "{key}: {line}");
        }
        assert_eq!(line["policy_kl"], -0.01);
        assert_eq!(serde_json::from_value::<StepMetrics>(line.clone())?, read);
        // The present name has precedence.
        let mut both = line;
        both["kl"] = json!(7.0);
        assert_eq!(serde_json::from_value::<StepMetrics>(both)?.update.policy_kl, Some(-0.01));
        Ok(())
    }
}
