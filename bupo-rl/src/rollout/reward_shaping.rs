//! Reward variance, over-long reward shaping, and the advantages of a step's groups.

use bupo_eval::Group;

use crate::config::RolloutConfig;
use crate::loss::{Advantage, RewardedLength};

/// Whether a group has rewards that differ, or is a group of one. Compares the rewards: the standard deviation of equal rewards
/// may be above 0 by rounding.
pub fn has_reward_variance(rewards: &[f64]) -> bool {
    rewards.len() == 1 || rewards.iter().any(|reward| *reward != rewards[0])
}

/// The over-long penalty of DAPO (arXiv 2503.14476, equation 13): 0 up to `limit - buffer` tokens, then linear down to `-factor`
/// at `limit`.
pub fn overlong_penalty(tokens: usize, limit: usize, buffer: usize, factor: f64) -> f64 {
    let beyond = (tokens + buffer).saturating_sub(limit);
    if beyond == 0 { 0.0 } else { -(beyond as f64) / buffer as f64 * factor }
}

/// The advantages of each group's responses, from rewards with the over-long penalty applied.
pub(crate) fn advantages(groups: &[Group], advantage: Advantage, settings: &RolloutConfig) -> Vec<Vec<f64>> {
    let limit = settings.max_new_tokens;
    let buffer = (settings.overlong_share * limit as f64).round() as usize;
    let scored: Vec<Vec<RewardedLength>> = groups
        .iter()
        .map(|group| {
            let scored = group.responses.iter().map(|response| {
                let tokens = response.tokens.len();
                let penalty = overlong_penalty(tokens, limit, buffer, settings.overlong_penalty);
                RewardedLength { reward: response.graded.score + penalty, tokens }
            });
            scored.collect()
        })
        .collect();
    advantage.of(&scored)
}
