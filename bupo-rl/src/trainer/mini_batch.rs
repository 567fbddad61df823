//! A step's groups cut into mini-batches, with advantages, old log-probs and the reference's log-probs.

use bupo_core::TokenStats;
use bupo_eval::Group;
use bupo_models::Sequence;
use burn::tensor::backend::Backend;

use super::Trainer;
use crate::RlError;
use crate::config::TruncatedReward;
use crate::rollout::{StepAdvantages, advantages};
use crate::update::{LossSpec, Sample, response_stats};

/// The responses of one update.
pub(super) struct MiniBatch {
    pub(super) samples: Vec<Sample>,
    /// Sum of the trained policy's entropies at the response tokens; 0 for the first update, which computes them itself.
    pub(super) entropy_sum: f64,
}

/// The mini-batches of a step.
pub(super) struct MiniBatches {
    /// One per update; none of them is empty.
    pub(super) batches: Vec<MiniBatch>,
    /// Whether any advantage is not 0.
    pub(super) advantages_vary: bool,
}

/// The mini-batches of a step. Old log-probs are those before the step's first update, at the site that `loss` trains. With
/// `reward.truncated = "mask"`, truncated responses are left out after the advantages are computed.
pub(super) fn mini_batches<B: Backend>(
    trainer: &Trainer<B>,
    groups: &[Group],
    loss: &LossSpec,
) -> Result<MiniBatches, RlError> {
    let config = &trainer.config;
    let StepAdvantages { values, vary } = advantages(groups, config.objective.advantage, &config.rollout);
    let masks = config.truncated_reward() == TruncatedReward::Mask;
    let per_update = config.update.mini_batch_prompts;
    let mut batches = Vec::new();
    for (groups, advantages) in groups.chunks(per_update).zip(values.chunks(per_update)) {
        let responses = groups.iter().flat_map(|group| group.sequences().zip(&group.responses));
        let rows = responses.zip(advantages.iter().flatten().copied());
        let rows: Vec<(Sequence, f64)> = rows
            .filter(|((_, response), _)| response.finished || !masks)
            .map(|((sequence, _), advantage)| (sequence, advantage))
            .collect();
        if !rows.is_empty() {
            // In the first update the policy is still the old one: its log-probs are the old log-probs.
            let needs_old = !batches.is_empty();
            batches.push(mini_batch(trainer, rows, loss, needs_old)?);
        }
    }
    Ok(MiniBatches { batches, advantages_vary: vary })
}

fn mini_batch<B: Backend>(
    trainer: &Trainer<B>,
    mut rows: Vec<(Sequence, f64)>,
    loss: &LossSpec,
    needs_old: bool,
) -> Result<MiniBatch, RlError> {
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
