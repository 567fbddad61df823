//! The responses of one step: drawn, graded, filtered, and what they came to.

use bupo_core::{Norm, PolicySite};
use burn::tensor::backend::Backend;

use crate::RlError;
use crate::advantage::{Advantage, Scored, mean_and_std};
use crate::config::RolloutConfig;
use crate::evaluate::{Group, Sampler, Sampling};
use crate::questions::Questions;
use crate::random::{Purpose, stream_seed};

/// A step's groups.
pub(crate) struct Rollout {
    /// Those to learn from.
    pub(crate) groups: Vec<Group>,
    /// Of all that were sampled.
    pub(crate) summary: RolloutSummary,
}

/// What a step's responses came to.
pub(crate) struct RolloutSummary {
    pub(crate) reward: f64,
    /// Standard error of the mean reward, by the spread of the groups' means.
    pub(crate) reward_error: f64,
    pub(crate) reward_std: f64,
    pub(crate) frac_reward_zero_std: f64,
    pub(crate) response_length: f64,
    pub(crate) truncated: f64,
    /// Share of responses that ended with their first token.
    pub(crate) empty: f64,
    /// `exp` of minus the mean log-prob of the sampled tokens.
    pub(crate) perplexity: f64,
    /// Responses sampled.
    pub(crate) responses: usize,
    /// Prompt and response tokens.
    pub(crate) tokens: usize,
}

/// Samples a step's groups from the full policy. `draws` counts the draws of prompts over the whole run.
///
/// With dynamic sampling, groups whose rewards are all equal are left out and further prompts drawn, until there are
/// enough or the draws of a step are used up.
pub(crate) fn rollout<B: Backend>(
    sampler: &Sampler<'_, B>,
    questions: &dyn Questions,
    settings: &RolloutConfig,
    seed: u64,
    draws: &mut usize,
) -> Result<Rollout, RlError> {
    let mut groups = Vec::new();
    let mut sampled = Vec::new();
    for _ in 0..settings.max_draws {
        *draws += 1;
        let sampling = Sampling {
            site: PolicySite::Full,
            norm: Norm::None,
            samples: settings.group_size,
            temperature: settings.temperature,
            max_new_tokens: settings.max_new_tokens,
            batch: settings.batch,
            seed: stream_seed(seed, Purpose::Rollouts, *draws),
        };
        let drawn = sampler.sample(&questions.training(*draws)?, 0, &sampling, |answered| questions.grade(answered))?;
        let dynamic = settings.max_draws > 1;
        groups.extend(drawn.iter().filter(|group| !dynamic || teaches(&scores(group))).cloned());
        sampled.extend(drawn);
        if groups.len() >= settings.prompts {
            groups.truncate(settings.prompts);
            break;
        }
    }
    Ok(Rollout { groups, summary: RolloutSummary::of(&sampled) })
}

/// Whether a group's rewards tell its responses apart. The rewards themselves are compared: their standard deviation may
/// be above 0 by rounding alone.
pub fn teaches(rewards: &[f64]) -> bool {
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
    let scored: Vec<Vec<Scored>> = groups
        .iter()
        .map(|group| {
            let scored = group.responses.iter().map(|response| {
                let tokens = response.tokens.len();
                let penalty = overlong_penalty(tokens, limit, buffer, settings.overlong_penalty);
                Scored { reward: response.graded.score + penalty, tokens }
            });
            scored.collect()
        })
        .collect();
    advantage.of(&scored)
}

fn scores(group: &Group) -> Vec<f64> {
    group.responses.iter().map(|response| response.graded.score).collect()
}

impl RolloutSummary {
    fn of(groups: &[Group]) -> Self {
        let per_group: Vec<(f64, f64)> = groups.iter().map(|group| mean_and_std(&scores(group))).collect();
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
