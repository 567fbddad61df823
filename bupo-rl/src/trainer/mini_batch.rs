//! A step's groups cut into mini-batches, with advantages, old log-probs and the reference's log-probs.

use bupo_core::{Norm, PolicySite, TokenStats};
use bupo_eval::Group;
use bupo_models::Sequence;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::Trainer;
use super::critic::{response_targets, values_of};
use crate::RlError;
use crate::agree::Agree;
use crate::config::TruncatedReward;
use crate::loss::{BatchSize, ChosenTokens, RewardKl, TokenValues, ValueStats};
use crate::random::{Purpose, stream_seed};
use crate::rollout::{StepAdvantages, advantages};
use crate::update::{LossSpec, PolicySpec, Sample, SamplingLogProbs, TermLogProbs, response_stats};

/// The responses of one update.
pub(super) struct MiniBatch {
    /// This process's share of them.
    pub(super) samples: Vec<Sample>,
    /// The size of all of them.
    pub(super) size: BatchSize,
    /// Sum of the trained policy's entropies before the step at all response tokens; `None` for a first update that computes them
    /// itself.
    pub(super) entropy_sum: Option<f64>,
}

/// A response to train on.
struct Row<'a> {
    /// Its group and its number therein.
    place: (usize, usize),
    /// Its number in the mini-batch.
    index: usize,
    sequence: Sequence,
    /// The log-probs of its tokens at sampling.
    engine: &'a [f32],
}

/// The mini-batches of a step.
pub(super) struct MiniBatches {
    /// One per update of an epoch; none of them is empty.
    pub(super) batches: Vec<MiniBatch>,
    /// Whether any advantage is not 0.
    pub(super) advantages_vary: bool,
    /// The values of the critic, if there is one and there are responses.
    pub(super) values: Option<ValueStats>,
}

/// A process's share of a mini-batch without what depends on the shares of others.
struct Measured {
    batch: MiniBatch,
    /// The group and number of each sample.
    places: Vec<(usize, usize)>,
    /// The number in the mini-batch of each sample.
    indices: Vec<usize>,
    /// The entropies before the step of each sample, if they were computed.
    entropies: Vec<Vec<f32>>,
}

impl Measured {
    /// The samples with their groups and numbers.
    fn placed_samples(&mut self) -> impl Iterator<Item = ((usize, usize), &mut Sample)> {
        self.places.iter().copied().zip(&mut self.batch.samples)
    }
}

/// What processes tell one another of their shares of a step.
#[derive(Serialize, Deserialize)]
struct Shared {
    /// The sum of entropies by mini-batch.
    entropy_sums: Vec<Option<f64>>,
    /// KL penalties by group and number; none without a KL in the reward.
    kl_penalties: Vec<((usize, usize), f64)>,
}

/// The mini-batches of a step. Old log-probs are those before the step's first update, at the site that `loss` trains. With
/// `reward.truncated = "mask"`, truncated responses are left out after the advantages are computed. `without_prompt`: the first token
/// of a response takes the place of its prompt.
pub(super) fn mini_batches<B: Backend>(
    trainer: &Trainer<'_, B>,
    step: usize,
    groups: &[Group],
    loss: &LossSpec,
    without_prompt: bool,
) -> Result<MiniBatches, RlError> {
    let config = &trainer.config;
    let masks = config.truncated_reward() == TruncatedReward::Mask;
    let per_update = config.update.mini_batch_prompts;
    // In the first of several updates the policy is still the old one: its log-probs are the old log-probs.
    let needs_first = config.update.epochs > 1 || loss.objective.needs_values_before();
    let mut batches = Vec::new();
    for (number, chunk) in groups.chunks(per_update).enumerate() {
        let responses = chunk.iter().enumerate().flat_map(|(group, members)| {
            let responses = members.sequences().zip(&members.responses).enumerate();
            responses.map(move |(response, pair)| ((number * per_update + group, response), pair))
        });
        let rows: Vec<Row<'_>> = responses
            .filter(|(_, (_, response))| response.finished || !masks)
            .map(|(place, (sequence, response))| {
                let sequence = if without_prompt { sequence.without_prompt() } else { sequence };
                (place, (sequence, response))
            })
            .filter(|(_, (sequence, _))| !sequence.response.is_empty())
            .enumerate()
            .map(|(index, (place, (sequence, response)))| Row { place, index, sequence, engine: &response.log_probs })
            .collect();
        if !rows.is_empty() {
            let needs_old = !batches.is_empty() || needs_first;
            let size = BatchSize::of(rows.iter().map(|row| row.sequence.response.len()), loss.norm_length);
            let own = trainer.processes.balanced(&rows.iter().map(|row| row.sequence.len()).collect::<Vec<_>>());
            let rows = rows.into_iter().filter(|row| own.binary_search(&row.index).is_ok()).collect();
            batches.push(measured(trainer, rows, size, loss, needs_old));
        }
    }
    let (mut measured, shared) = match batches.into_iter().collect::<Result<Vec<Measured>, RlError>>() {
        Ok(measured) => {
            let entropy_sums = measured.iter().map(|measured| measured.batch.entropy_sum).collect();
            let shared = Shared { entropy_sums, kl_penalties: kl_penalties(&measured, &loss.objective.reward_kl) };
            (measured, Ok(shared))
        }
        Err(error) => (Vec::new(), Err(error)),
    };
    let of_processes = trainer.processes.agreed(shared)?;
    for (index, Measured { batch, .. }) in measured.iter_mut().enumerate() {
        batch.entropy_sum = of_processes.iter().map(|shared| shared.entropy_sums[index]).sum();
    }
    let (of_responses, values) = if trainer.critic.is_some() {
        let samples = measured.iter_mut().flat_map(|measured| measured.placed_samples());
        (None, response_targets(config, groups, samples.collect(), trainer.processes)?)
    } else {
        let penalties = loss.objective.reward_kl.is_on().then(|| by_place(groups, &of_processes));
        (Some(advantages(groups, &loss.objective, &config.rollout, penalties.as_deref())), None)
    };
    let vary = of_responses.as_ref().map_or(values.is_some(), |advantages| advantages.vary);
    let mut batches = Vec::with_capacity(measured.len());
    for (number, mut measured) in measured.into_iter().enumerate() {
        if let Some(StepAdvantages { values, .. }) = &of_responses {
            measured
                .placed_samples()
                .for_each(|((group, response), sample)| sample.advantage = values[group][response]);
        }
        if loss.objective.chooses_tokens() {
            // A step has fewer mini-batches than this.
            let draw = (step << 16) | number;
            choose_tokens(&mut measured, loss, stream_seed(config.seed, Purpose::TokenChoice, draw), trainer)?;
        }
        batches.push(measured.batch);
    }
    Ok(MiniBatches { batches, advantages_vary: vary, values })
}

/// Sets the tokens chosen of the samples of a mini-batch.
fn choose_tokens<B: Backend>(
    measured: &mut Measured,
    loss: &LossSpec,
    seed: u64,
    trainer: &Trainer<'_, B>,
) -> Result<(), RlError> {
    let values: Vec<TokenValues<'_>> = measured
        .batch
        .samples
        .iter()
        .zip(&measured.indices)
        .zip(&measured.entropies)
        .map(|((sample, index), entropy)| TokenValues {
            index: *index,
            log_probs: sample.old_log_probs.as_deref().unwrap_or_default(),
            entropy,
            advantage: sample.advantage,
        })
        .collect();
    let chosen = loss.objective.choose_tokens(&values, seed, trainer.processes)?;
    measured.batch.samples.iter_mut().zip(chosen).for_each(|(sample, chosen)| sample.chosen = chosen);
    Ok(())
}

fn kl_penalties(measured: &[Measured], reward_kl: &RewardKl) -> Vec<((usize, usize), f64)> {
    let samples = measured.iter().flat_map(|measured| measured.batch.samples.iter().zip(&measured.places));
    let penalty = |(sample, place): (&Sample, &(usize, usize))| {
        let (old, reference) = (sample.old_log_probs.as_deref()?, sample.ref_log_probs.as_deref()?);
        Some((*place, reward_kl.penalty(old, reference)))
    };
    if reward_kl.is_on() { samples.filter_map(penalty).collect() } else { Vec::new() }
}

/// The KL penalty of every response by group and number.
fn by_place(groups: &[Group], shared: &[Shared]) -> Vec<Vec<f64>> {
    let mut penalties: Vec<Vec<f64>> = groups.iter().map(|group| vec![0.0; group.responses.len()]).collect();
    for ((group, response), penalty) in shared.iter().flat_map(|shared| &shared.kl_penalties) {
        penalties[*group][*response] = *penalty;
    }
    penalties
}

fn measured<B: Backend>(
    trainer: &Trainer<'_, B>,
    mut rows: Vec<Row<'_>>,
    size: BatchSize,
    loss: &LossSpec,
    needs_old: bool,
) -> Result<Measured, RlError> {
    // The update does not depend on the order.
    rows.sort_by(|a, b| trainer.model.decoder.batch_order(&a.sequence, &b.sequence));
    let engine: Vec<&[f32]> = rows.iter().map(|row| row.engine).collect();
    let (places, indices) = rows.iter().map(|row| (row.place, row.index)).unzip();
    let sequences: Vec<Sequence> = rows.into_iter().map(|row| row.sequence).collect();

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
    let terms = term_log_probs(trainer, &sequences, loss, needs_old)?;
    let mut values = values_of(trainer, &sequences, loss)?.into_iter();
    let entropy_sum =
        old.as_ref().map(|old| old.iter().flat_map(|stats| stats.entropy.iter().copied().map(f64::from)).sum());
    let keeps_entropies = loss.objective.chooses_tokens();
    let entropies = old.iter().flatten().filter(|_| keeps_entropies).map(|stats| stats.entropy.clone()).collect();

    let (mut old, mut reference, mut full) = (log_probs(old), log_probs(reference), log_probs(full));
    let samples = sequences
        .into_iter()
        .zip(engine)
        .zip(terms)
        .map(|((sequence, engine), terms)| Sample {
            sequence,
            // Set when the step's are known.
            advantage: 0.0,
            critic: values.next(),
            old_log_probs: old.as_mut().and_then(Iterator::next),
            ref_log_probs: reference.as_mut().and_then(Iterator::next),
            sampling: loss
                .correction
                .map(|_| SamplingLogProbs { engine: engine.to_vec(), trainer: full.as_mut().and_then(Iterator::next) }),
            chosen: ChosenTokens::default(),
            terms,
        })
        .collect();
    Ok(Measured { batch: MiniBatch { samples, size, entropy_sum }, places, indices, entropies })
}

/// The log-probs of each sequence at the further sites of the loss.
fn term_log_probs<B: Backend>(
    trainer: &Trainer<'_, B>,
    sequences: &[Sequence],
    loss: &LossSpec,
    needs_old: bool,
) -> Result<Vec<Vec<TermLogProbs>>, RlError> {
    let mut all = vec![Vec::with_capacity(loss.terms.len()); sequences.len()];
    for term in &loss.terms {
        let policy = PolicySpec { site: term.site, norm: term.norm, ..loss.policy };
        let has_policy_loss = term.weight != 0.0;
        let stats_of = |decoder, is_needed: bool| {
            let stats = (is_needed && has_policy_loss)
                .then(|| response_stats(decoder, sequences, &policy, loss.max_tokens_per_batch));
            stats.transpose().map(log_probs)
        };
        let mut old = stats_of(&trainer.model.decoder, needs_old)?;
        let mut reference = match &trainer.reference {
            Some(reference) => stats_of(reference, true)?,
            None => None,
        };
        for of_sequence in &mut all {
            of_sequence.push(TermLogProbs {
                old: old.as_mut().and_then(Iterator::next),
                reference: reference.as_mut().and_then(Iterator::next),
            });
        }
    }
    Ok(all)
}

fn log_probs(stats: Option<Vec<TokenStats>>) -> Option<impl Iterator<Item = Vec<f32>>> {
    stats.map(|stats| stats.into_iter().map(|stats| stats.log_probs))
}
