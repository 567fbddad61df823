//! A step's groups cut into mini-batches, with advantages, old log-probs and the reference's log-probs.

use bupo_core::{Norm, PolicySite, TokenStats};
use bupo_eval::Group;
use bupo_models::Sequence;
use burn::tensor::backend::Backend;

use super::Trainer;
use crate::RlError;
use crate::agree::Agree;
use crate::config::TruncatedReward;
use crate::loss::BatchSize;
use crate::rollout::{StepAdvantages, advantages};
use crate::update::{LossSpec, PolicySpec, Sample, SamplingLogProbs, response_stats};

/// The responses of one update.
pub(super) struct MiniBatch {
    /// This process's share of them.
    pub(super) samples: Vec<Sample>,
    /// The size of all of them.
    pub(super) size: BatchSize,
    /// Sum of the trained policy's entropies at all response tokens; 0 for the first update, which computes them itself.
    pub(super) entropy_sum: f64,
}

/// A response to train on.
struct Row<'a> {
    sequence: Sequence,
    /// The log-probs of its tokens at sampling.
    engine: &'a [f32],
    advantage: f64,
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
    trainer: &Trainer<'_, B>,
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
        let rows: Vec<Row<'_>> = rows
            .filter(|((_, response), _)| response.finished || !masks)
            .map(|((sequence, response), advantage)| Row { sequence, engine: &response.log_probs, advantage })
            .collect();
        if !rows.is_empty() {
            // In the first update the policy is still the old one: its log-probs are the old log-probs.
            let needs_old = !batches.is_empty();
            let size = BatchSize::of(rows.iter().map(|row| row.sequence.response.len()), loss.norm_length);
            let own = trainer.processes.balanced(&rows.iter().map(|row| row.sequence.len()).collect::<Vec<_>>());
            let rows = rows.into_iter().enumerate().filter(|(index, _)| own.binary_search(index).is_ok());
            let rows = rows.map(|(_, row)| row).collect();
            batches.push(mini_batch(trainer, rows, size, loss, needs_old));
        }
    }
    let (mut batches, entropy_sums) = match batches.into_iter().collect::<Result<Vec<MiniBatch>, RlError>>() {
        Ok(batches) => {
            let sums: Vec<f64> = batches.iter().map(|batch| batch.entropy_sum).collect();
            (batches, Ok(sums))
        }
        Err(error) => (Vec::new(), Err(error)),
    };
    let of_processes = trainer.processes.agreed(entropy_sums)?;
    for (index, batch) in batches.iter_mut().enumerate() {
        batch.entropy_sum = of_processes.iter().map(|sums| sums[index]).sum();
    }
    Ok(MiniBatches { batches, advantages_vary: vary })
}

fn mini_batch<B: Backend>(
    trainer: &Trainer<'_, B>,
    mut rows: Vec<Row<'_>>,
    size: BatchSize,
    loss: &LossSpec,
    needs_old: bool,
) -> Result<MiniBatch, RlError> {
    // Neighbours of similar length need little padding; the update does not depend on the order.
    rows.sort_by_key(|row| row.sequence.len());
    let engine: Vec<&[f32]> = rows.iter().map(|row| row.engine).collect();
    let (sequences, advantages): (Vec<_>, Vec<_>) = rows.into_iter().map(|row| (row.sequence, row.advantage)).unzip();

    let stats_of =
        |decoder, policy: &PolicySpec| response_stats(decoder, &sequences, policy, loss.max_tokens_per_batch);
    let decoder = &trainer.model.decoder;
    let old = if needs_old { Some(stats_of(decoder, &loss.policy)?) } else { None };
    let reference = trainer.reference.as_ref().map(|reference| stats_of(reference, &loss.policy)).transpose()?;
    // The responses are samples of the full policy, whichever policy is trained.
    let is_internal = loss.policy.site != PolicySite::Full;
    let full = match loss.correction {
        Some(_) if is_internal => {
            Some(stats_of(decoder, &PolicySpec { site: PolicySite::Full, norm: Norm::None, ..loss.policy })?)
        }
        _ => None,
    };
    let entropy_sum = old.iter().flatten().flat_map(|stats| stats.entropy.iter().copied().map(f64::from)).sum();

    let (mut old, mut reference, mut full) = (log_probs(old), log_probs(reference), log_probs(full));
    let samples = sequences
        .into_iter()
        .zip(advantages)
        .zip(engine)
        .map(|((sequence, advantage), engine)| Sample {
            sequence,
            advantage,
            old_log_probs: old.as_mut().and_then(Iterator::next),
            ref_log_probs: reference.as_mut().and_then(Iterator::next),
            sampling: loss
                .correction
                .map(|_| SamplingLogProbs { engine: engine.to_vec(), trainer: full.as_mut().and_then(Iterator::next) }),
        })
        .collect();
    Ok(MiniBatch { samples, size, entropy_sum })
}

fn log_probs(stats: Option<Vec<TokenStats>>) -> Option<impl Iterator<Item = Vec<f32>>> {
    stats.map(|stats| stats.into_iter().map(|stats| stats.log_probs))
}
