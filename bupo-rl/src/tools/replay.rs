//! Updates on recorded rollouts without generation, for comparison with other implementations.

use std::collections::BTreeMap;
use std::path::Path;

use bupo_collective::Processes;
use bupo_models::{Decoder, Sequence};
use bupo_runs::{JsonLine, JsonLinesOptions, read_json_lines};
use burn::tensor::backend::Backend;
use serde::Deserialize;

use crate::RlError;
use crate::config::TrainConfig;
use crate::loss::{RewardedLength, TokenValues};
use crate::phases::PhaseConfig;
use crate::update::{
    AdamWSettings, DecoderOptimizer, LossSpec, PolicySpec, Sample, UpdateStats, response_stats, update,
};

/// Larger rewards are taken for errors; their squares could overflow.
const MAX_REWARD: f64 = 1e9;

/// A recorded rollout. The response is used whole: it must already end at its first end-of-sequence id.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedRollout {
    /// Responses to one prompt share a group.
    pub group: u64,
    /// The prompt's token ids.
    pub prompt: Vec<u32>,
    /// The response's token ids.
    pub response: Vec<u32>,
    /// The reward.
    pub reward: f64,
}

/// A line of a file of rollouts. A text has its ids beside it, as in `rollouts.jsonl` of a run.
#[derive(Deserialize)]
struct Line {
    group: u64,
    prompt: TextOrTokens,
    response: TextOrTokens,
    prompt_tokens: Option<Vec<u32>>,
    response_tokens: Option<Vec<u32>>,
    /// NaN where a scorer failed.
    #[serde(deserialize_with = "crate::trainer::nan_if_null")]
    reward: f64,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of token ids, or a text with its ids beside it")]
enum TextOrTokens {
    Tokens(Vec<u32>),
    Text(#[expect(dead_code, reason = "the ids beside it are used")] String),
}

/// Reads recorded rollouts, one JSON object per line. Lines without a reward (null), whose scorer failed, are skipped.
///
/// # Errors
/// Names the first line that is invalid, has no tokens, or has a token id outside the vocabulary of size `vocab`.
pub fn read_rollouts(path: &Path, vocab: usize) -> Result<Vec<RecordedRollout>, RlError> {
    let mut rollouts = Vec::new();
    for JsonLine { number, value: line } in read_json_lines::<Line>(path, JsonLinesOptions::default())? {
        let error = |reason: String| RlError::Rollout { path: path.to_path_buf(), line: number, reason };
        if line.reward.is_nan() {
            continue;
        }
        let ids = |name: &str, beside: Option<Vec<u32>>, given: TextOrTokens| match (beside, given) {
            (Some(ids), _) | (None, TextOrTokens::Tokens(ids)) => Ok(ids),
            (None, TextOrTokens::Text(_)) => {
                Err(error(format!("{name} is a text; give its token ids there, or beside it as {name}_tokens")))
            }
        };
        let rollout = RecordedRollout {
            group: line.group,
            prompt: ids("prompt", line.prompt_tokens, line.prompt)?,
            response: ids("response", line.response_tokens, line.response)?,
            reward: line.reward,
        };
        for (name, ids) in [("prompt", &rollout.prompt), ("response", &rollout.response)] {
            if ids.is_empty() {
                return Err(error(format!("{name} has no tokens")));
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
                return Err(error(format!("{name} has token id {id}, outside the model's vocabulary of {vocab}")));
            }
        }
        if rollout.reward.abs() > MAX_REWARD {
            return Err(error(format!("reward is {:e}; it must be within {MAX_REWARD:e} of 0", rollout.reward)));
        }
        rollouts.push(rollout);
    }
    if rollouts.is_empty() {
        return Err(RlError::NoData { path: path.to_path_buf(), reason: "the file has no rollouts; write {\"group\": ..., \"prompt\": ..., \"response\": ..., \"reward\": ...} on each line".into() });
    }
    Ok(rollouts)
}

impl LossSpec {
    /// The loss of `bupo replay`: the default objective, changed by pairs such as `loss=gspo` or `objective.clip_high=0.3`, of
    /// `policy`, whose temperature is that of the log-probs. `rollout.max_new_tokens` sets what `seq-mean-token-sum-norm` divides by;
    /// otherwise it divides by the longest response.
    ///
    /// # Errors
    /// If a pair is of another setting, or has an invalid value.
    pub fn for_replay(pairs: &[String], policy: PolicySpec, max_tokens_per_batch: usize) -> Result<Self, RlError> {
        const NORM_LENGTH: &str = "rollout.max_new_tokens=";
        const APPLY: [&str; 5] = ["loss=", "objective.", NORM_LENGTH, "optimizer.moments=", "optimizer.weights="];
        let applies = |pair: &&String| !APPLY.iter().any(|start| pair.starts_with(start));
        if let Some(pair) = pairs.iter().find(applies) {
            return Err(RlError::Config(format!(
                "{pair} has no effect on a replay; give loss, objective.*, optimizer.moments, optimizer.weights or rollout.max_new_tokens"
            )));
        }
        if !(policy.temperature.is_finite() && policy.temperature > 0.0) {
            return Err(RlError::Config(format!(
                "--temperature is {}; it must be a positive number",
                policy.temperature
            )));
        }
        let config = TrainConfig::load(None, pairs)?;
        let of_steps = [
            ("objective.reward_kl", config.objective.reward_kl.is_on()),
            ("objective.entropy_target", config.objective.entropy_target.is_on()),
        ];
        if let Some((name, _)) = of_steps.iter().find(|(_, is_on)| *is_on) {
            return Err(RlError::Config(format!(
                "{name} has no effect on a replay, whose updates are one step of the model itself; remove it"
            )));
        }
        if config.has_critic() {
            return Err(RlError::Config(
                "objective.advantage = \"gae\" (loss = \"ppo\") takes the values of a critic, which a replay does not have; give another loss"
                    .into(),
            ));
        }
        if config.phases.iter().any(PhaseConfig::has_more_than_its_site) {
            return Err(RlError::Config(
                "a loss of several sites, of samples of one sign, or without the prompt is one of phases, which a replay does not have; give \
                 another loss"
                    .into(),
            ));
        }
        let sets_norm_length = pairs.iter().any(|pair| pair.starts_with(NORM_LENGTH));
        Ok(Self {
            norm_length: sets_norm_length.then_some(config.rollout.max_new_tokens),
            max_tokens_per_batch,
            recompute: false,
            ..Self::from_config(&config, policy)
        })
    }
}

impl AdamWSettings {
    /// The settings of a replay: these, at a learning rate, with `optimizer.moments` and `optimizer.weights` of `key=value` pairs.
    ///
    /// # Errors
    /// If a pair has an invalid value.
    pub fn for_replay(pairs: &[String], learning_rate: f64) -> Result<Self, RlError> {
        let Self { moments, weights, .. } = TrainConfig::load(None, pairs)?.optimizer;
        Ok(Self { learning_rate, moments, weights, ..Self::default() })
    }
}

/// Makes `updates` updates, each on all rollouts as one mini-batch. `report` gets each one's number and statistics.
///
/// Old log-probs are computed once, before the first update, at the site of the loss.
///
/// # Errors
/// If the policy's site is outside the model, or `report` fails.
pub fn replay<B: Backend>(
    decoder: &mut Decoder<B>,
    optimizer: &mut DecoderOptimizer<B>,
    rollouts: &[RecordedRollout],
    loss: &LossSpec,
    updates: usize,
    mut report: impl FnMut(usize, &UpdateStats) -> Result<(), RlError>,
) -> Result<(), RlError> {
    let samples = samples(decoder, rollouts, loss)?;
    for index in 1..=updates {
        report(index, &update(decoder, optimizer, &samples, loss)?)?;
    }
    Ok(())
}

fn samples<B: Backend>(
    decoder: &Decoder<B>,
    rollouts: &[RecordedRollout],
    loss: &LossSpec,
) -> Result<Vec<Sample>, RlError> {
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, rollout) in rollouts.iter().enumerate() {
        groups.entry(rollout.group).or_default().push(index);
    }
    let scored =
        |index: &usize| RewardedLength { reward: rollouts[*index].reward, tokens: rollouts[*index].response.len() };
    let members: Vec<Vec<usize>> = groups.into_values().collect();
    let scores: Vec<Vec<RewardedLength>> = members.iter().map(|group| group.iter().map(scored).collect()).collect();
    let mut advantages = vec![0.0; rollouts.len()];
    for (group, values) in members.iter().zip(loss.objective.advantages(&scores)) {
        for (index, advantage) in group.iter().zip(values) {
            advantages[*index] = advantage;
        }
    }
    let sequences: Vec<Sequence> = rollouts
        .iter()
        .map(|rollout| Sequence { prompt: rollout.prompt.clone(), response: rollout.response.clone() })
        .collect();
    let stats = response_stats(decoder, &sequences, &loss.policy, loss.max_tokens_per_batch)?;
    // The reference is the model before its first update.
    let reference = loss.objective.needs_reference();
    let values: Vec<TokenValues<'_>> = stats
        .iter()
        .zip(&advantages)
        .enumerate()
        .map(|(index, (stats, advantage))| TokenValues {
            index,
            log_probs: &stats.log_probs,
            entropy: &stats.entropy,
            advantage: *advantage,
        })
        .collect();
    let chosen = loss.objective.choose_tokens(&values, 0, &Processes::alone())?;
    Ok(sequences
        .into_iter()
        .zip(advantages)
        .zip(stats)
        .zip(chosen)
        .map(|(((sequence, advantage), stats), chosen)| Sample {
            sequence,
            advantage,
            critic: None,
            ref_log_probs: reference.then(|| stats.log_probs.clone()),
            old_log_probs: Some(stats.log_probs),
            sampling: None,
            chosen,
            terms: Vec::new(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use bupo_core::{Norm, PolicySite};

    use super::*;
    use crate::loss::{Objective, Ratio};
    use crate::update::{MomentDtype, WeightStorage};

    #[test]
    fn ids_are_read_in_the_place_of_texts_or_beside_them() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rollouts.jsonl");
        let read = |text: &str| -> Result<Vec<RecordedRollout>, String> {
            std::fs::write(&path, text).map_err(|error| error.to_string())?;
            read_rollouts(&path, 10).map_err(|error| error.to_string())
        };
        let ids = r#"{"group": 3, "prompt": [1], "response": [2, 4], "reward": 1.0}"#;
        let texts = r#"{"step": 1, "group": 3, "prompt": "a", "response": "bc", "prompt_tokens": [1], "response_tokens": [2, 4], "reward": 1.0}"#;
        let expected = RecordedRollout { group: 3, prompt: vec![1], response: vec![2, 4], reward: 1.0 };
        let ungraded = r#"{"group": 3, "prompt": [1], "response": [2], "reward": null}"#;
        assert_eq!(read(&format!("{ids}\n{ungraded}\n{texts}\n"))?, [expected.clone(), expected]);
        for (line, wanted) in [
            (
                r#"{"group": 3, "prompt": "a", "response": [2], "reward": 1.0}"#,
                "give its token ids there, or beside it as prompt_tokens",
            ),
            (r#"{"group": 3, "prompt": [1], "response": [2]}"#, "missing field `reward`"),
            (r#"{"group": 3, "prompt": 1, "response": [2], "reward": 1.0}"#, "a list of token ids"),
            (ungraded, "no rollouts"),
        ] {
            let error = read(line).err().unwrap_or_default();
            assert!(error.contains(wanted), "{line}: {error}");
        }
        Ok(())
    }

    #[test]
    fn a_replay_takes_settings_of_the_loss_and_the_optimizers_memory() -> Result<(), RlError> {
        let policy = PolicySpec { site: PolicySite::Full, norm: Norm::None, temperature: 0.7 };
        let spec = |pairs: &[&str]| {
            LossSpec::for_replay(&pairs.iter().map(ToString::to_string).collect::<Vec<_>>(), policy, 64)
        };
        let default = spec(&[])?;
        assert_eq!((default.objective, default.norm_length, default.policy), (Objective::default(), None, policy));
        let changed = spec(&["loss=gspo", "objective.clip_high=0.3", "rollout.max_new_tokens=100"])?;
        assert_eq!((changed.objective.ratio, changed.objective.clip_high), (Ratio::Sequence, 0.3));
        assert_eq!((changed.objective.clip_low, changed.norm_length), (3e-4, Some(100)));
        let pairs = ["optimizer.moments=8bit", "optimizer.weights=stochastic"].map(String::from);
        assert!(LossSpec::for_replay(&pairs, policy, 64).is_ok());
        let settings = AdamWSettings::for_replay(&pairs, 1e-3)?;
        let expected = AdamWSettings {
            learning_rate: 1e-3,
            moments: MomentDtype::EightBit,
            weights: WeightStorage::Stochastic,
            ..AdamWSettings::default()
        };
        assert_eq!(settings, expected);
        for (pair, expected) in [
            ("seed=1", "no effect"),
            ("objective.clip=1", "clip"),
            ("objective.dual_clip=0.5", "at least 1"),
            ("objective.reward_kl.coefficient=0.1", "no effect on a replay"),
            ("objective.entropy_target.entropy=0.1", "no effect on a replay"),
            ("loss=oisd", "give another loss"),
            ("loss=ppo", "which a replay does not have"),
            ("loss=dsrl", "give another loss"),
        ] {
            let error = spec(&[pair]).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{pair}: {error}");
        }
        Ok(())
    }
}
