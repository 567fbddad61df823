//! One step: rollouts, rewards, old log-probs, advantages, updates.

use std::time::Instant;

use bupo_core::TokenStats;
use bupo_models::Sequence;
use burn::tensor::backend::Backend;

use super::guard::warnings;
use super::{Progress, StepMetrics, Trainer};
use crate::RlError;
use crate::advantage::mean_and_std;
use crate::batch::{PolicySpec, response_stats};
use crate::evaluate::{Group, Sampler};
use crate::plan::{cut_rollout, cut_update};
use crate::rollout::{Rollout, advantages, rollout};
use crate::update::{LossSpec, Sample, UpdateStats, update};

/// Completions are kept of the first step and of every one of this many.
const COMPLETIONS_EVERY: usize = 10;

/// The responses of one update, ready for it.
pub(super) struct MiniBatch {
    pub(super) samples: Vec<Sample>,
    /// The trained policy's entropies at the response tokens, added up; 0 for the first update, which finds them itself.
    entropy_sum: f64,
}

/// What a step's updates came to.
struct Updates {
    stats: Vec<UpdateStats>,
    /// The trained policy's entropies at the response tokens before the step, but for the first update's, added up.
    entropy_sum: f64,
}

impl Updates {
    fn mean(&self, value: fn(&UpdateStats) -> f64) -> f64 {
        mean_and_std(&self.stats.iter().map(value).collect::<Vec<_>>()).0
    }

    /// The trained policy's mean entropy before the step.
    fn entropy(&self) -> f64 {
        let first = self.stats.first().map_or(0.0, |update| update.entropy * update.tokens as f64);
        let tokens: usize = self.stats.iter().map(|update| update.tokens).sum();
        (first + self.entropy_sum) / tokens.max(1) as f64
    }

    fn extreme_ratio(&self) -> f64 {
        let further =
            |extreme: f64, ratio: f64| if (ratio - 1.0).abs() > (extreme - 1.0).abs() { ratio } else { extreme };
        self.stats.iter().map(|update| update.extreme_ratio).fold(1.0, further)
    }

    fn skipped(&self) -> usize {
        self.stats.iter().filter(|update| update.skipped).count()
    }
}

impl<B: Backend> Trainer<B> {
    /// Makes a step (from 1), and whatever the phase guard has to say of it.
    pub(super) fn step(&mut self, step: usize, progress: &mut dyn Progress) -> Result<StepMetrics, RlError> {
        let started = Instant::now();
        self.make_room(progress);
        let sampler = Sampler::new(&self.model, &self.tokenizer);
        let settings = &self.config.rollout;
        let Rollout { groups, summary } =
            rollout(&sampler, self.questions.as_ref(), settings, self.config.seed, &mut self.at.draws)?;
        let cut_rollout = self.spare(cut_rollout, progress)?;
        if step == 1 || step.is_multiple_of(COMPLETIONS_EVERY) {
            self.keep_completions(&groups, step, false)?;
        }
        let seconds_rollout = started.elapsed().as_secs_f64();

        if self.at.schedule.is_open() {
            self.settle(&groups, progress)?;
        }
        let (number, phase) = self.at.schedule.at(step);
        if step == 1 || number != self.at.schedule.at(step - 1).0 {
            progress.phase(number, &phase, self.at.schedule.steps());
        }
        let settings = &self.config.rollout;
        let loss = LossSpec {
            policy: PolicySpec { site: phase.site, norm: phase.norm, temperature: settings.temperature },
            objective: self.config.objective,
            norm_length: Some(settings.max_new_tokens),
            max_tokens_per_batch: self.config.update.max_tokens_per_batch,
            recompute: self.config.update.recompute,
        };
        let watch = self.watch(&groups, &loss.policy)?;
        let learning_rate = self.config.optimizer.learning_rate
            * self.config.learning_rate_schedule.factor(step, self.at.schedule.steps());
        self.optimizer.set_learning_rate(learning_rate);
        self.make_room(progress);
        let updates = self.updates(step, &groups, &loss)?;
        let cut_update = self.spare(cut_update, progress)?;
        let guard = self.guard_phase(step, &summary, &watch)?;

        let seconds = started.elapsed().as_secs_f64();
        let metrics = StepMetrics {
            step,
            phase: number,
            site: phase.site,
            reward: summary.reward,
            reward_error: summary.reward_error,
            reward_std: summary.reward_std,
            frac_reward_zero_std: summary.frac_reward_zero_std,
            responses: summary.responses,
            groups: groups.len(),
            grading_failures: self.grading_failures(),
            entropy: updates.entropy(),
            kl: updates.mean(|update| update.kl),
            ref_kl: self.reference.is_some().then(|| updates.mean(|update| update.ref_kl)),
            loss: updates.mean(|update| update.loss),
            grad_norm: updates.mean(|update| update.grad_norm),
            clip_ratio: updates.mean(|update| update.clip_ratio),
            dual_clip_ratio: updates.mean(|update| update.dual_clip_ratio),
            first_ratio: updates.stats.first().map_or(1.0, |update| update.extreme_ratio),
            extreme_ratio: updates.extreme_ratio(),
            response_length: summary.response_length,
            truncated: summary.truncated,
            empty: summary.empty,
            perplexity: summary.perplexity,
            sampling_gap: watch.sampling_gap.mean,
            sampling_gap_max: watch.sampling_gap.max,
            kl_to_full: watch.beside.as_ref().and_then(|beside| beside.kl_to_full),
            drift: watch.beside.as_ref().map(|beside| beside.drift),
            skipped_updates: updates.skipped(),
            warnings: warnings(&watch.sampling_gap, updates.extreme_ratio(), updates.skipped())
                .into_iter()
                .chain(cut_rollout)
                .chain(cut_update)
                .collect(),
            guard,
            learning_rate,
            tokens_per_second: summary.tokens as f64 / seconds,
            seconds_rollout,
            seconds_update: seconds - seconds_rollout,
        };
        self.run.metrics(step, &metrics)?;
        self.run.state.step = step;
        self.run.state.steps = self.at.schedule.steps();
        self.run.state.phase = Some(number.to_string());
        self.run.state.site = Some(phase.site.to_string());
        self.run.state.last_reward = Some(metrics.reward);
        self.run.save_state()?;
        Ok(metrics)
    }

    /// Old log-probs of all mini-batches, which come before the first update, at the site this step trains; then the updates.
    fn updates(&mut self, step: usize, groups: &[Group], loss: &LossSpec) -> Result<Updates, RlError> {
        let advantages = advantages(groups, self.config.objective.advantage, &self.config.rollout);
        let per_update = self.config.update.mini_batch_prompts;
        let mini_batches: Vec<MiniBatch> = groups
            .chunks(per_update)
            .zip(advantages.chunks(per_update))
            .enumerate()
            // The first update finds the policy as it was before the step: its own log-probs are the old ones.
            .map(|(index, (groups, advantages))| self.mini_batch(groups, advantages, loss, index > 0))
            .collect::<Result<_, _>>()?;
        let mut stats: Vec<UpdateStats> = Vec::with_capacity(mini_batches.len());
        for (index, batch) in mini_batches.iter().enumerate() {
            let update = update(&mut self.model.decoder, &mut self.optimizer, &batch.samples, loss)?;
            stats.push(update);
            self.guard_update(step, index + 1, &update, batch)?;
        }
        Ok(Updates { stats, entropy_sum: mini_batches.iter().map(|batch| batch.entropy_sum).sum() })
    }

    fn mini_batch(
        &self,
        groups: &[Group],
        advantages: &[Vec<f64>],
        loss: &LossSpec,
        needs_old: bool,
    ) -> Result<MiniBatch, RlError> {
        let mut scored: Vec<(Sequence, f64)> = groups
            .iter()
            .zip(advantages)
            .flat_map(|(group, advantages)| {
                let sequence =
                    |tokens: &Vec<u32>| Sequence { prompt: group.question.tokens.clone(), response: tokens.clone() };
                group.responses.iter().map(move |response| sequence(&response.tokens)).zip(advantages.iter().copied())
            })
            .collect();
        // Like lengths beside one another need little padding; the update is the same in any order.
        scored.sort_by_key(|(sequence, _)| sequence.len());
        let (sequences, advantages): (Vec<_>, Vec<_>) = scored.into_iter().unzip();
        let stats_of = |decoder| response_stats(decoder, &sequences, &loss.policy, loss.max_tokens_per_batch);
        let old = if needs_old { Some(stats_of(&self.model.decoder)?) } else { None };
        let reference = self.reference.as_ref().map(stats_of).transpose()?;
        let entropies = old.iter().flatten().flat_map(|stats| stats.entropy.iter().copied().map(f64::from));
        let entropy_sum = entropies.sum();
        let log_probs =
            |stats: Option<Vec<TokenStats>>| stats.map(|stats| stats.into_iter().map(|stats| stats.log_probs));
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
}
