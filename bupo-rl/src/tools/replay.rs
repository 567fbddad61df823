//! Updates on recorded rollouts without generation, for comparison with other implementations.

use std::collections::BTreeMap;
use std::path::Path;

use bupo_models::{Decoder, Sequence};
use bupo_runs::{JsonLine, JsonLinesOptions, read_json_lines};
use burn::tensor::backend::Backend;
use serde::Deserialize;

use crate::RlError;
use crate::loss::RewardedLength;
use crate::update::{DecoderOptimizer, LossSpec, Sample, UpdateStats, response_stats, update};

/// Larger rewards are taken for errors; their squares could overflow.
const MAX_REWARD: f64 = 1e9;

/// A recorded rollout. The response is used whole: it must already end at its first end-of-sequence id.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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

/// Reads recorded rollouts, one JSON object per line.
///
/// # Errors
/// Names the first line that is invalid, has no tokens, or has a token id outside the vocabulary of size `vocab`.
pub fn read_rollouts(path: &Path, vocab: usize) -> Result<Vec<RecordedRollout>, RlError> {
    let mut rollouts = Vec::new();
    for JsonLine { number, value: rollout } in read_json_lines::<RecordedRollout>(path, JsonLinesOptions::default())? {
        let error = |reason: String| RlError::Rollout { path: path.to_path_buf(), line: number, reason };
        for (name, ids) in [("prompt", &rollout.prompt), ("response", &rollout.response)] {
            if ids.is_empty() {
                return Err(error(format!("{name} has no tokens")));
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
                return Err(error(format!("{name} has token id {id}, outside the model's vocabulary of {vocab}")));
            }
        }
        if rollout.reward.is_nan() || rollout.reward.abs() > MAX_REWARD {
            return Err(error(format!("reward is {:e}; it must be within {MAX_REWARD:e} of 0", rollout.reward)));
        }
        rollouts.push(rollout);
    }
    if rollouts.is_empty() {
        return Err(RlError::NoData { path: path.to_path_buf(), reason: "the file has no rollouts".into() });
    }
    Ok(rollouts)
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
    for (group, values) in members.iter().zip(loss.objective.advantage.of(&scores)) {
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
    Ok(sequences
        .into_iter()
        .zip(advantages)
        .zip(stats)
        .map(|((sequence, advantage), stats)| Sample {
            sequence,
            advantage,
            ref_log_probs: reference.then(|| stats.log_probs.clone()),
            old_log_probs: Some(stats.log_probs),
        })
        .collect())
}
