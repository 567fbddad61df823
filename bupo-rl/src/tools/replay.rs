//! Learning from recorded rollouts, without generation: how anyone can check an update against another program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bupo_models::{Decoder, Sequence};
use burn::tensor::backend::Backend;
use serde::Deserialize;

use crate::RlError;
use crate::loss::RewardedLength;
use crate::update::{DecoderOptimizer, LossSpec, Sample, UpdateStats, response_stats, update};

/// Rewards beyond this are mistakes, and their squares might not be numbers.
const MAX_REWARD: f64 = 1e9;

/// A line of recorded rollouts. The response is taken whole: it is the recorder who ends it at its first
/// end-of-sequence id.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RecordedRollout {
    /// Responses to one prompt share a group.
    pub group: u64,
    /// The prompt's ids.
    pub prompt: Vec<u32>,
    /// The response's ids.
    pub response: Vec<u32>,
    /// What the response is worth.
    pub reward: f64,
}

/// Reads recorded rollouts, one JSON object a line.
///
/// # Errors
/// Names the first line that is malformed, empty of tokens, or has an id outside the vocabulary.
pub fn read_rollouts(path: &Path, vocab: usize) -> Result<Vec<RecordedRollout>, RlError> {
    let text = fs::read_to_string(path).map_err(RlError::io("read", path))?;
    let mut rollouts = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |reason: String| RlError::Rollout { path: path.to_path_buf(), line: index + 1, reason };
        if line.trim().is_empty() {
            return Err(wrong("the line is empty; each line is one rollout".into()));
        }
        let rollout: RecordedRollout = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        for (name, ids) in [("prompt", &rollout.prompt), ("response", &rollout.response)] {
            if ids.is_empty() {
                return Err(wrong(format!("{name} has no tokens")));
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
                return Err(wrong(format!("{name} has token id {id}, outside the model's vocabulary of {vocab}")));
            }
        }
        if rollout.reward.is_nan() || rollout.reward.abs() > MAX_REWARD {
            return Err(wrong(format!("reward is {:e}; it must be within {MAX_REWARD:e} of 0", rollout.reward)));
        }
        rollouts.push(rollout);
    }
    if rollouts.is_empty() {
        return Err(RlError::NoData { path: path.to_path_buf(), reason: "there are no rollouts in it".into() });
    }
    Ok(rollouts)
}

/// Makes `updates` updates, each on all rollouts as one mini-batch, and hands each one's figures to `report`.
///
/// Advantages are within groups; old log-probs are taken once, before the first update, at the policy's own site.
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
    // The model before its first update is its own reference.
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
