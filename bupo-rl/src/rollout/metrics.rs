//! Statistics of a step's sampled responses.

use bupo_eval::{Group, mean_and_std};
use serde::{Deserialize, Serialize};

/// Means over a step's sampled responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutMetrics {
    /// Mean reward.
    pub reward: f64,
    /// The mean reward's standard error, from the standard deviation of the groups' means.
    pub reward_error: f64,
    /// Mean over groups of the rewards' standard deviation.
    pub reward_std: f64,
    /// Share of groups without reward variance, whose advantages are all 0.
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
    /// Prompt and response tokens.
    #[serde(skip)]
    pub(crate) tokens: usize,
}

impl RolloutMetrics {
    pub(crate) fn of(groups: &[Group]) -> Self {
        let per_group: Vec<(f64, f64)> = groups.iter().map(|group| mean_and_std(&group.scores())).collect();
        let mean = |values: Vec<f64>| mean_and_std(&values).0;
        let (reward, spread) = mean_and_std(&per_group.iter().map(|(reward, _)| *reward).collect::<Vec<_>>());
        let responses = || groups.iter().flat_map(|group| &group.responses);
        let prompts: usize = groups.iter().map(|group| group.question.tokens.len() * group.responses.len()).sum();
        Self {
            reward,
            reward_error: spread / (per_group.len().max(1) as f64).sqrt(),
            reward_std: mean(per_group.iter().map(|(_, std)| *std).collect()),
            frac_reward_zero_std: mean(per_group.iter().map(|(_, std)| f64::from(u8::from(*std == 0.0))).collect()),
            response_length: mean(responses().map(|response| response.tokens.len() as f64).collect()),
            truncated: mean(responses().map(|response| f64::from(u8::from(!response.finished))).collect()),
            empty: mean(responses().map(|r| f64::from(u8::from(r.finished && r.tokens.len() <= 1))).collect()),
            perplexity: (-mean(
                responses().flat_map(|response| response.log_probs.iter().copied().map(f64::from)).collect(),
            ))
            .exp(),
            responses: responses().count(),
            tokens: prompts + responses().map(|response| response.tokens.len()).sum::<usize>(),
        }
    }
}
