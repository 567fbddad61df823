//! Statistics of a step's sampled responses.

use bupo_eval::{Group, mean_and_std};
use serde::{Deserialize, Serialize};

use super::reward_shaping::has_variance;

/// Means over a step's sampled responses. Rewards are those of responses that were graded; without any, their metrics are NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutMetrics {
    /// Mean reward.
    #[serde(deserialize_with = "crate::trainer::nan_if_null")]
    pub reward: f64,
    /// The mean reward's standard error, from the standard deviation of the groups' means.
    #[serde(deserialize_with = "crate::trainer::nan_if_null")]
    pub reward_error: f64,
    /// Mean over groups of the rewards' standard deviation.
    #[serde(deserialize_with = "crate::trainer::nan_if_null")]
    pub reward_std: f64,
    /// Share of groups without reward variance, whose group-relative advantages are all 0. Rewards are compared, not their
    /// rounded standard deviation.
    #[serde(deserialize_with = "crate::trainer::nan_if_null")]
    pub frac_reward_zero_std: f64,
    /// Responses sampled; with dynamic sampling, more than are trained on.
    pub responses: usize,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Share of responses cut by the length limit.
    pub truncated: f64,
    /// Share of responses that ended with their first token.
    pub empty: f64,
    /// The full policy's perplexity on the responses it sampled: `exp` of minus the mean log-prob of their tokens.
    #[serde(deserialize_with = "crate::trainer::nan_if_null")]
    pub perplexity: f64,
    /// Steps between the weights that sampled the responses and those before the step's updates, the largest of all groups; `None`
    /// without servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staleness: Option<usize>,
    /// Prompt and response tokens.
    #[serde(skip)]
    pub(crate) tokens: usize,
    /// Whether every graded response has reward 0.
    #[serde(skip)]
    pub(crate) all_zero: bool,
}

impl RolloutMetrics {
    /// `steps`: training steps done when the responses are trained on.
    pub(crate) fn of(groups: &[Group], steps: usize) -> Self {
        let scores = groups.iter().map(|group| (has_variance(group), group.scores().into_iter().flatten().collect()));
        let graded: Vec<(bool, Vec<f64>)> =
            scores.filter(|(_, scores): &(bool, Vec<f64>)| !scores.is_empty()).collect();
        let per_group: Vec<(f64, f64)> = graded.iter().map(|(_, scores)| mean_and_std(scores)).collect();
        let mean = |values: Vec<f64>| mean_and_std(&values).0;
        let measured = |value: f64| if graded.is_empty() { f64::NAN } else { value };
        let zero_std = graded.iter().map(|(has_variance, _)| f64::from(u8::from(!has_variance))).collect();
        let (reward, spread) = mean_and_std(&per_group.iter().map(|(reward, _)| *reward).collect::<Vec<_>>());
        let responses = || groups.iter().flat_map(|group| &group.responses);
        let prompts: usize = groups.iter().map(|group| group.question.tokens.len() * group.responses.len()).sum();
        Self {
            reward: measured(reward),
            reward_error: measured(spread / (per_group.len().max(1) as f64).sqrt()),
            reward_std: measured(mean(per_group.iter().map(|(_, std)| *std).collect())),
            frac_reward_zero_std: measured(mean(zero_std)),
            all_zero: !graded.is_empty() && graded.iter().flat_map(|(_, scores)| scores).all(|score| *score == 0.0),
            response_length: mean(responses().map(|response| response.tokens.len() as f64).collect()),
            truncated: mean(responses().map(|response| f64::from(u8::from(!response.finished))).collect()),
            empty: mean(responses().map(|r| f64::from(u8::from(r.finished && r.tokens.len() <= 1))).collect()),
            perplexity: (-mean(
                responses().flat_map(|response| response.log_probs.iter().copied().map(f64::from)).collect(),
            ))
            .exp(),
            responses: responses().count(),
            staleness: groups.iter().filter_map(|group| Some(steps.saturating_sub(group.weights_step?))).max(),
            tokens: prompts + responses().map(|response| response.tokens.len()).sum::<usize>(),
        }
    }
}
