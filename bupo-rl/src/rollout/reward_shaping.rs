//! Reward variance, over-long reward shaping, and the advantages of a step's groups.

use bupo_eval::{Group, ScoredResponse};

use crate::config::RolloutConfig;
use crate::loss::{Advantage, Objective, RewardedLength};

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

/// The reward of a response with the over-long penalty applied.
pub(crate) fn shaped_reward(response: &ScoredResponse, settings: &RolloutConfig) -> f64 {
    let (limit, buffer) = (settings.max_new_tokens, settings.overlong_tokens());
    response.graded.score + overlong_penalty(response.tokens.len(), limit, buffer, settings.overlong_penalty)
}

/// The advantages of a step's responses by group, and whether any of them is not 0.
pub(crate) struct StepAdvantages {
    /// By group and response; 0 for a response that a scorer failed to grade.
    pub(crate) values: Vec<Vec<f64>>,
    /// Whether rewards differ where `advantage` compares them: within groups, or over the step.
    pub(crate) vary: bool,
}

/// The advantages from rewards with the over-long penalty applied, less `kl_penalties` by group and response if there are any.
/// Responses that a scorer failed to grade do not count in means and standard deviations; nor does the only graded response of a
/// larger group, which has nothing to be compared with.
pub(crate) fn advantages(
    groups: &[Group],
    objective: &Objective,
    settings: &RolloutConfig,
    kl_penalties: Option<&[Vec<f64>]>,
) -> StepAdvantages {
    let graded: Vec<Vec<(usize, RewardedLength)>> = groups
        .iter()
        .enumerate()
        .map(|(number, group)| {
            let responses = group.responses.iter().enumerate().filter(|(_, response)| response.failure.is_none());
            let rewarded: Vec<_> = responses
                .map(|(index, response)| {
                    let (reward, tokens) = (shaped_reward(response, settings), response.tokens.len());
                    let reward = kl_penalties.map_or(reward, |penalties| reward - penalties[number][index]);
                    (index, RewardedLength { reward, tokens })
                })
                .collect();
            if rewarded.len() == 1 && group.responses.len() > 1 { Vec::new() } else { rewarded }
        })
        .collect();
    let rewarded: Vec<Vec<RewardedLength>> =
        graded.iter().map(|group| group.iter().map(|(_, rewarded)| *rewarded).collect()).collect();
    let rewards: Vec<Vec<f64>> =
        rewarded.iter().map(|group| group.iter().map(|rewarded| rewarded.reward).collect()).collect();
    let vary = match objective.advantage {
        Advantage::ReinforcePlusPlus => has_reward_variance(&rewards.concat()),
        Advantage::SignedReward => rewards.iter().any(|rewards| !rewards.is_empty()),
        _ => rewards.iter().any(|rewards| has_reward_variance(rewards)),
    };
    let mut values: Vec<Vec<f64>> = groups.iter().map(|group| vec![0.0; group.responses.len()]).collect();
    for ((values, group), advantages) in values.iter_mut().zip(&graded).zip(objective.advantages(&rewarded)) {
        for ((index, _), advantage) in group.iter().zip(advantages) {
            values[*index] = advantage;
        }
    }
    StepAdvantages { values, vary }
}

/// Whether a group's graded responses have reward variance.
pub(crate) fn has_variance(group: &Group) -> bool {
    let scores: Vec<f64> = group.scores().into_iter().flatten().collect();
    (scores.len() > 1 || group.responses.len() == 1) && has_reward_variance(&scores)
}

#[cfg(test)]
mod tests {
    use bupo_eval::Question;
    use bupo_grade::Graded;

    use super::*;
    use crate::loss::group_advantages;

    /// A group of responses of these rewards; `None` if the scorer failed.
    fn group(rewards: &[Option<f64>]) -> Group {
        let response = |reward: &Option<f64>| ScoredResponse {
            tokens: vec![1; 3],
            log_probs: vec![0.0; 3],
            text: String::new(),
            graded: Graded { score: reward.unwrap_or(0.0), extracted: None },
            failure: reward.is_none().then(|| "it timed out".into()),
            finished: true,
        };
        let question =
            Question { prompt: String::new(), tokens: vec![1], answer: String::new(), data_source: String::new() };
        Group { question, responses: rewards.iter().map(response).collect(), weights_step: None }
    }

    #[test]
    fn responses_without_a_grade_are_not_in_the_group_statistics() {
        let settings = RolloutConfig::default();
        let groups = [
            group(&[Some(1.0), None, Some(1.0), Some(0.0)]),
            group(&[Some(1.0), None, Some(1.0)]),
            group(&[None, Some(1.0)]),
            group(&[None, None]),
        ];
        for advantage in [Advantage::Grpo, Advantage::DrGrpo, Advantage::Rloo, Advantage::ReinforcePlusPlusBaseline] {
            let objective = Objective { advantage, ..Objective::default() };
            let found = advantages(&groups, &objective, &settings, None);
            let only_graded = advantages(
                &[group(&[Some(1.0), Some(1.0), Some(0.0)]), group(&[Some(1.0), Some(1.0)])],
                &objective,
                &settings,
                None,
            );
            let [first, second] = &only_graded.values[..] else { unreachable!() };
            assert_eq!(found.values[0], [first[0], 0.0, first[1], first[2]], "{advantage:?}");
            assert_eq!(found.values[1], [second[0], 0.0, second[1]], "{advantage:?}");
            assert_eq!((&found.values[2][..], &found.values[3][..]), (&[0.0; 2][..], &[0.0; 2][..]));
            assert!(found.vary);
        }
        let of = |groups: &[Group]| advantages(groups, &Objective::default(), &settings, None);
        assert_eq!(of(&groups[..1]).values[0][0], group_advantages(&[1.0, 1.0, 0.0])[0]);
        assert!(!of(&groups[1..]).vary);
        assert_eq!(groups.each_ref().map(has_variance), [true, false, false, false]);
    }

    #[test]
    fn reinforce_compares_rewards_over_the_step() {
        let groups = [group(&[Some(1.0), Some(1.0)]), group(&[Some(0.0), Some(0.0)])];
        let varies = |advantage| {
            let objective = Objective { advantage, ..Objective::default() };
            advantages(&groups, &objective, &RolloutConfig::default(), None).vary
        };
        let all = [Advantage::ReinforcePlusPlus, Advantage::Grpo, Advantage::SignedReward];
        assert_eq!(all.map(varies), [true, false, true]);
    }

    #[test]
    fn a_kl_penalty_is_subtracted_from_the_reward_of_its_response() {
        let groups = [group(&[Some(1.0), None, Some(0.0)]), group(&[Some(1.0), Some(1.0)])];
        let penalties = [vec![0.25, 9.0, -0.5], vec![0.5, 0.0]];
        let objective = Objective { advantage: Advantage::DrGrpo, ..Objective::default() };
        let found = advantages(&groups, &objective, &RolloutConfig::default(), Some(&penalties));
        assert_eq!(found.values, [vec![0.125, 0.0, -0.125], vec![-0.25, 0.25]]);
        assert!(found.vary);
    }
}
