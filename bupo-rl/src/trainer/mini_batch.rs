//! A step's groups cut into mini-batches, with advantages, old log-probs and the reference's log-probs.

use bupo_core::TokenStats;
use bupo_eval::Group;
use bupo_models::Sequence;
use burn::tensor::backend::Backend;

use super::Trainer;
use crate::RlError;
use crate::rollout::advantages;
use crate::update::{LossSpec, Sample, response_stats};

/// The responses of one update.
pub(super) struct MiniBatch {
    pub(super) samples: Vec<Sample>,
    /// Sum of the trained policy's entropies at the response tokens; 0 for the first update, which computes them itself.
    pub(super) entropy_sum: f64,
}

/// The mini-batches of a step. Old log-probs are those before the step's first update, at the site that `loss` trains.
pub(super) fn mini_batches<B: Backend>(
    trainer: &Trainer<B>,
    groups: &[Group],
    loss: &LossSpec,
) -> Result<Vec<MiniBatch>, RlError> {
    let config = &trainer.config;
    let advantages = advantages(groups, config.objective.advantage, &config.rollout);
    let per_update = config.update.mini_batch_prompts;
    groups
        .chunks(per_update)
        .zip(advantages.chunks(per_update))
        .enumerate()
        // In the first update the policy is still the old one: its log-probs are the old log-probs.
        .map(|(index, (groups, advantages))| mini_batch(trainer, groups, advantages, loss, index > 0))
        .collect()
}

fn mini_batch<B: Backend>(
    trainer: &Trainer<B>,
    groups: &[Group],
    advantages: &[Vec<f64>],
    loss: &LossSpec,
    needs_old: bool,
) -> Result<MiniBatch, RlError> {
    let sequences = groups.iter().flat_map(Group::sequences);
    let mut rows: Vec<(Sequence, f64)> = sequences.zip(advantages.iter().flatten().copied()).collect();
    // Neighbours of similar length need little padding; the update does not depend on the order.
    rows.sort_by_key(|(sequence, _)| sequence.len());
    let (sequences, advantages): (Vec<_>, Vec<_>) = rows.into_iter().unzip();

    let stats_of = |decoder| response_stats(decoder, &sequences, &loss.policy, loss.max_tokens_per_batch);
    let old = if needs_old { Some(stats_of(&trainer.model.decoder)?) } else { None };
    let reference = trainer.reference.as_ref().map(stats_of).transpose()?;
    let entropy_sum = old.iter().flatten().flat_map(|stats| stats.entropy.iter().copied().map(f64::from)).sum();

    let (mut old, mut reference) = (log_probs(old), log_probs(reference));
    let samples = sequences
        .into_iter()
        .zip(advantages)
        .map(|(sequence, advantage)| Sample {
            sequence,
            advantage,
            old_log_probs: old.as_mut().and_then(Iterator::next),
            ref_log_probs: reference.as_mut().and_then(Iterator::next),
        })
        .collect();
    Ok(MiniBatch { samples, entropy_sum })
}

fn log_probs(stats: Option<Vec<TokenStats>>) -> Option<impl Iterator<Item = Vec<f32>>> {
    stats.map(|stats| stats.into_iter().map(|stats| stats.log_probs))
}
