//! What a training step warns of.

use super::metrics::{PolicyMetrics, UpdateMetrics};
use super::warning::{Warning, WarningKind};
use crate::config::{TrainConfig, TruncatedReward};
use crate::loss::Advantage;
use crate::rollout::RolloutMetrics;

/// Mean difference in nats between log-probs at sampling and in training above which a step warns; rounding in f32 is 1e-7.
const MAX_LOGP_DIFFERENCE: f64 = 0.02;
/// The importance ratio, or its inverse, above which a step warns.
const MAX_RATIO: f64 = 10.0;

/// Warnings of a step that cannot increase the reward; one that trains the critic alone is not meant to.
pub(super) fn reward_warnings(
    config: &TrainConfig,
    rollout: &RolloutMetrics,
    update: &UpdateMetrics,
    advantages_vary: bool,
    is_critic_warmup: bool,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |kind, text| warnings.push(Warning { kind, text });
    let limit = config.rollout.max_new_tokens;
    if rollout.truncated == 1.0 {
        let effect = match config.truncated_reward() {
            TruncatedReward::Grade => "answers may be missing",
            TruncatedReward::Zero => "their rewards are 0 (reward.truncated = \"zero\")",
            TruncatedReward::Mask => "none of them is in the loss (reward.truncated = \"mask\")",
        };
        let text = format!(
            "all responses were truncated at rollout.max_new_tokens = {limit}, so that {effect}; raise it, or check that the model's \
             eos_token_id includes the token that ends a turn in its chat template"
        );
        warn(WarningKind::AllTruncated, text);
    }
    if rollout.reward.is_nan() {
        let text =
            "the scorer failed to grade every response; run bupo grade on completions.jsonl to see why".to_string();
        warn(WarningKind::AllGradingFailed, text);
    } else if rollout.all_zero && config.objective.advantage != Advantage::SignedReward {
        let text = "all rewards are 0, so that nothing is learned from them; compare responses, extracted answers and reference \
                    answers in completions.jsonl, and check reward.rule, data.answer_column and the prompt"
            .to_string();
        warn(WarningKind::AllRewardsZero, text);
    } else if !advantages_vary && update.loss.is_some() {
        let text = format!(
            "rewards differ within no group, so that every advantage is 0 (mean reward {:.3}); raise rollout.group_size or \
             rollout.prompts, or use problems that the model solves sometimes",
            rollout.reward
        );
        warn(WarningKind::NoRewardVariance, text);
    }
    if update.loss.is_none() && !is_critic_warmup {
        let text = if rollout.truncated == 1.0 && config.truncated_reward() == TruncatedReward::Mask {
            "no update was made: every response is masked as truncated; raise rollout.max_new_tokens".to_string()
        } else {
            format!(
                "no update was made: dynamic sampling found no group with reward variance in {} draws; raise rollout.max_draws or \
                 rollout.group_size, or use problems that the model solves sometimes",
                config.rollout.max_draws
            )
        };
        warn(WarningKind::NoUpdate, text);
    }
    warnings
}

/// Warnings of a step's policies and updates.
pub(super) fn policy_warnings(config: &TrainConfig, policy: &PolicyMetrics, update: &UpdateMetrics) -> Vec<Warning> {
    let skipped = update.skipped_updates;
    let mut warnings = Vec::new();
    let mut warn = |kind, text| warnings.push(Warning { kind, text });
    // The difference to servers has a limit of its own, and the loss is corrected for it.
    let has_servers = config.rollout.has_servers();
    if has_servers && config.rollout.correction().is_none() {
        let text = "rollout.correction.mode is \"off\": the loss takes the servers' samples for the trainer's own, which biases its \
                    gradient; set it to \"token-truncate\", unless servers and trainer compute the same"
            .to_string();
        warn(WarningKind::NoCorrection, text);
    }
    let is_large = |mean: &f64| *mean > MAX_LOGP_DIFFERENCE && !has_servers;
    if let Some(mean) = policy.sampling_logp_difference.filter(is_large) {
        let max = policy.sampling_logp_difference_max.unwrap_or(mean);
        warn(
            WarningKind::SamplingLogpDifference,
            format!(
                "log-probs at sampling and in training differ by {mean:.3} nats on average, {max:.2} at most: the responses are not \
                 samples of the trained policy, and importance ratios do not correct for it; set dtype = \"f32\""
            ),
        );
    }
    let is_extreme = |ratio: &f64| !(MAX_RATIO.recip()..=MAX_RATIO).contains(ratio);
    if let Some(extreme_ratio) = update.extreme_ratio.filter(is_extreme) {
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

    fn updates(loss: Option<f64>) -> UpdateMetrics {
        UpdateMetrics {
            entropy: loss,
            policy_kl: loss,
            ref_kl: None,
            loss,
            grad_norm: loss,
            clip_ratio: loss,
            clip_ratio_low: loss,
            clip_ratio_high: loss,
            dual_clip_ratio: loss,
            left_out_ratio: None,
            penalised_ratio: None,
            entropy_coefficient: None,
            site_divergence: None,
            first_ratio: loss.map(|_| 1.0),
            extreme_ratio: loss.map(|_| 1.0),
            importance_ratio_mean: None,
            importance_ratio_std: None,
            importance_ratio_cut: None,
            skipped_updates: 0,
        }
    }

    fn rollout(reward: f64, truncated: f64) -> RolloutMetrics {
        RolloutMetrics {
            reward,
            reward_error: 0.0,
            reward_std: 0.0,
            frac_reward_zero_std: 0.0,
            responses: 8,
            response_length: 9.0,
            response_length_min: Some(9),
            response_length_max: Some(9),
            reward_by_source: None,
            by_source: None,
            truncated,
            empty: 0.0,
            perplexity: 1.0,
            staleness: None,
            tokens: 0,
            all_zero: reward == 0.0,
        }
    }

    #[test]
    fn a_step_whose_rewards_cannot_change_warns() -> Result<(), crate::RlError> {
        use WarningKind::*;
        let masks = TrainConfig::load(None, &["reward.truncated=mask".into()])?;
        let kinds = |config: &TrainConfig, reward, truncated, loss: Option<f64>, vary| -> Vec<WarningKind> {
            let warnings = reward_warnings(config, &rollout(reward, truncated), &updates(loss), vary, false);
            assert!(warnings.iter().all(|warning| warning.text.contains(';')), "each has a fix: {warnings:?}");
            warnings.into_iter().map(|warning| warning.kind).collect()
        };
        let default = TrainConfig::default();
        assert_eq!(kinds(&default, 0.5, 0.9, Some(0.1), true), []);
        assert_eq!(kinds(&default, 0.0, 1.0, Some(0.0), false), [AllTruncated, AllRewardsZero]);
        assert_eq!(kinds(&default, 0.0, 0.1, Some(0.0), false), [AllRewardsZero]);
        assert_eq!(kinds(&default, 1.0, 0.0, Some(0.0), false), [NoRewardVariance]);
        assert_eq!(kinds(&default, 1.0, 0.0, None, false), [NoUpdate]);
        let signed = TrainConfig::load(None, &["loss=nsr".into()])?;
        assert_eq!(kinds(&signed, 0.0, 0.1, Some(0.5), true), [], "wrong answers alone are learned from");
        assert_eq!(kinds(&masks, 0.5, 1.0, None, true), [AllTruncated, NoUpdate]);
        assert_eq!(kinds(&default, f64::NAN, 0.0, Some(0.0), false), [AllGradingFailed]);
        Ok(())
    }

    #[test]
    fn only_values_beyond_their_limits_warn() {
        let kinds = |mean: f64, extreme_ratio: f64, skipped_updates: usize| -> Vec<WarningKind> {
            let policy = PolicyMetrics {
                sampling_logp_difference: Some(mean),
                sampling_logp_difference_max: Some(mean),
                entropy_full: None,
                kl_to_full: None,
                drift: None,
            };
            let update = UpdateMetrics { extreme_ratio: Some(extreme_ratio), skipped_updates, ..updates(Some(0.0)) };
            policy_warnings(&TrainConfig::default(), &policy, &update).into_iter().map(|warning| warning.kind).collect()
        };
        assert_eq!(kinds(1e-6, 1.7, 0), []);
        assert_eq!(kinds(0.019, 0.11, 0), []);
        assert_eq!(kinds(0.021, 1.0, 0), [WarningKind::SamplingLogpDifference]);
        assert_eq!(kinds(0.0, 0.09, 0), [WarningKind::ImportanceRatio]);
        assert_eq!(kinds(0.0, 11.0, 2), [WarningKind::ImportanceRatio, WarningKind::SkippedUpdates]);
        assert_eq!(kinds(0.0, f64::NAN, 0), [WarningKind::ImportanceRatio]);
    }
}
