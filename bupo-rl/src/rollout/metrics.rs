//! Statistics of a step's sampled responses.

use std::collections::BTreeMap;

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
    /// Mean reward by data source, if the questions have more than one; `None` for a source without a graded response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_by_source: Option<BTreeMap<String, Option<f64>>>,
    /// More by data source, if the questions have more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_source: Option<BTreeMap<String, SourceMetrics>>,
    /// Responses sampled; with dynamic sampling, more than are trained on.
    pub responses: usize,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// The shortest response in tokens; `None` without responses.
    #[serde(default)]
    pub response_length_min: Option<usize>,
    /// The longest response in tokens.
    #[serde(default)]
    pub response_length_max: Option<usize>,
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

/// Means over the sampled responses to one data source's questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceMetrics {
    /// Groups sampled.
    pub groups: usize,
    /// Share of graded groups without reward variance; `None` if none was graded.
    pub frac_reward_zero_std: Option<f64>,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Share of responses cut by the length limit.
    pub truncated: f64,
}

impl SourceMetrics {
    fn of(groups: &[&Group]) -> Self {
        let mean = |values: Vec<f64>| mean_and_std(&values).0;
        let responses = || groups.iter().flat_map(|group| &group.responses);
        let graded = groups.iter().filter(|group| group.scores().iter().any(Option::is_some));
        let zero_std: Vec<f64> = graded.map(|group| f64::from(u8::from(!has_variance(group)))).collect();
        Self {
            groups: groups.len(),
            frac_reward_zero_std: (!zero_std.is_empty()).then(|| mean(zero_std)),
            response_length: mean(responses().map(|response| response.tokens.len() as f64).collect()),
            truncated: mean(responses().map(|response| f64::from(u8::from(!response.finished))).collect()),
        }
    }
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
        let lengths = || responses().map(|response| response.tokens.len());
        let prompts: usize = groups.iter().map(|group| group.question.tokens.len() * group.responses.len()).sum();
        Self {
            reward: measured(reward),
            reward_error: measured(spread / (per_group.len().max(1) as f64).sqrt()),
            reward_std: measured(mean(per_group.iter().map(|(_, std)| *std).collect())),
            frac_reward_zero_std: measured(mean(zero_std)),
            reward_by_source: reward_by_source(groups),
            by_source: by_source(groups),
            all_zero: !graded.is_empty() && graded.iter().flat_map(|(_, scores)| scores).all(|score| *score == 0.0),
            response_length: mean(lengths().map(|length| length as f64).collect()),
            response_length_min: lengths().min(),
            response_length_max: lengths().max(),
            truncated: mean(responses().map(|response| f64::from(u8::from(!response.finished))).collect()),
            empty: mean(responses().map(|r| f64::from(u8::from(r.finished && r.tokens.len() <= 1))).collect()),
            perplexity: (-mean(
                responses().flat_map(|response| response.log_probs.iter().copied().map(f64::from)).collect(),
            ))
            .exp(),
            responses: responses().count(),
            staleness: groups.iter().filter_map(|group| Some(steps.saturating_sub(group.weights_step?))).max(),
            tokens: prompts + lengths().sum::<usize>(),
        }
    }
}

/// The mean over each data source's groups of their mean rewards; `None` if there is one source.
fn reward_by_source(groups: &[Group]) -> Option<BTreeMap<String, Option<f64>>> {
    let mut by_source: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for group in groups {
        let rewards = by_source.entry(&group.question.data_source).or_default();
        let scores: Vec<f64> = group.scores().into_iter().flatten().collect();
        if !scores.is_empty() {
            rewards.push(mean_and_std(&scores).0);
        }
    }
    let mean = |rewards: &Vec<f64>| (!rewards.is_empty()).then(|| mean_and_std(rewards).0);
    (by_source.len() > 1)
        .then(|| by_source.iter().map(|(source, rewards)| (source.to_string(), mean(rewards))).collect())
}

fn by_source(groups: &[Group]) -> Option<BTreeMap<String, SourceMetrics>> {
    let mut by_source: BTreeMap<&str, Vec<&Group>> = BTreeMap::new();
    for group in groups {
        by_source.entry(&group.question.data_source).or_default().push(group);
    }
    let metrics = by_source.iter().map(|(source, groups)| (source.to_string(), SourceMetrics::of(groups)));
    (by_source.len() > 1).then(|| metrics.collect())
}

#[cfg(test)]
mod tests {
    use bupo_eval::{Question, ScoredResponse};
    use bupo_grade::Graded;

    use super::*;

    /// A group of responses of these lengths and rewards; `None` if the scorer failed.
    fn group(source: &str, responses: &[(usize, Option<f64>)]) -> Group {
        let response = |(length, reward): &(usize, Option<f64>)| ScoredResponse {
            tokens: vec![1; *length],
            log_probs: vec![0.0; *length],
            text: String::new(),
            graded: Graded { score: reward.unwrap_or(0.0), extracted: None },
            failure: reward.is_none().then(|| "it timed out".into()),
            finished: true,
        };
        let question =
            Question { prompt: String::new(), tokens: vec![1], answer: String::new(), data_source: source.into() };
        Group { question, responses: responses.iter().map(response).collect(), weights_step: None }
    }

    #[test]
    fn lengths_have_their_range_and_rewards_are_split_by_source() {
        let of = |groups: &[Group]| RolloutMetrics::of(groups, 0);
        let (a, b) = (group("a", &[(3, Some(1.0)), (9, Some(0.0))]), group("b", &[(5, Some(1.0)), (4, None)]));
        let failed = group("c", &[(2, None)]);
        let metrics = of(&[a.clone(), b, failed]);
        assert_eq!((metrics.response_length_min, metrics.response_length_max), (Some(2), Some(9)));
        let expected = [("a", Some(0.5)), ("b", Some(1.0)), ("c", None)];
        let expected = expected.map(|(source, reward)| (source.to_string(), reward));
        assert_eq!(metrics.reward_by_source, Some(BTreeMap::from(expected)));
        let by_source = metrics.by_source.unwrap_or_default();
        let of =
            |source: &str| by_source.get(source).map(|of| (of.groups, of.frac_reward_zero_std, of.response_length));
        assert_eq!(of("a"), Some((1, Some(0.0), 6.0)));
        assert_eq!(of("b"), Some((1, Some(1.0), 4.5)));
        assert_eq!(of("c"), Some((1, None, 2.0)));
        let of = |groups: &[Group]| RolloutMetrics::of(groups, 0);
        // One source needs no split.
        assert_eq!(of(&[a.clone(), a]).reward_by_source, None);
        assert_eq!(of(&[]).response_length_min, None);
    }
}
