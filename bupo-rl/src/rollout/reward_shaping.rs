//! Rewards of groups: whether they vary, how length shapes them, and the advantages that follow.

use bupo_eval::Group;

use crate::config::RolloutConfig;
use crate::loss::{Advantage, RewardedLength};

/// Whether a group's rewards tell its responses apart. The rewards themselves are compared: their standard deviation may
/// be above 0 by rounding alone.
pub fn has_reward_variance(rewards: &[f64]) -> bool {
    rewards.len() == 1 || rewards.iter().any(|reward| *reward != rewards[0])
}

/// The over-long penalty of DAPO (arXiv 2503.14476, equation 13): 0 up to `limit - buffer` tokens, then falling linearly to
/// `-factor` at `limit`.
pub fn overlong_penalty(tokens: usize, limit: usize, buffer: usize, factor: f64) -> f64 {
    let beyond = (tokens + buffer).saturating_sub(limit);
    if beyond == 0 { 0.0 } else { -(beyond as f64) / buffer as f64 * factor }
}

/// Each group's advantages, rewards shaped by length where the settings say so.
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
