//! One training step: rollouts and rewards, the phase's loss, old log-probs, advantages, updates, metrics.

use std::time::{Duration, Instant};

use bupo_eval::{Group, Sampler};
use burn::tensor::backend::Backend;

use super::Trainer;
use super::critic::CriticMetrics;
use super::metrics::{StepMetrics, StepParts, Timing};
use super::mini_batch::{MiniBatch, MiniBatches, mini_batches};
use super::progress::Progress;
use super::shrink::{cut_rollout, cut_update};
use super::updates::{LossParts, Updates};
use super::warnings::{policy_warnings, reward_warnings};
use crate::RlError;
use crate::agree::Agree;
use crate::data::Curriculum;
use crate::peak_memory::peak_memory;
use crate::phases::Phase;
use crate::random::{Purpose, stream_seed};
use crate::rollout::{Rollout, Samplers, has_variance, rollout};
use crate::update::{LossSpec, PolicySpec, update_among};

/// Completions are logged in the first step and every this many steps.
const COMPLETIONS_EVERY: usize = 10;

impl<B: Backend> Trainer<'_, B> {
    /// Runs a step (from 1).
    pub(super) fn step(&mut self, step: usize, progress: &mut dyn Progress) -> Result<StepMetrics, RlError> {
        self.processes.place(&format!("step {step}, sampling"));
        let (started, handed_over) = (Instant::now(), self.handing_over().unwrap_or_default());
        let drawn_before = self.state.draws;
        let Rollout { groups, sampled, metrics: rollout, grading } =
            self.within_memory(cut_rollout, progress, |trainer| trainer.sample(step))?;
        let have_variance: Vec<bool> = sampled.iter().map(|group| has_variance(group) || has_failure(group)).collect();
        drop(sampled);
        let rollout_time = started.elapsed();
        let in_rollout = self.handing_over().unwrap_or_default() - handed_over;

        if self.state.schedule.has_auto_layer() {
            self.resolve_auto_layer(&groups, progress)?;
        }
        let (number, phase) = self.enter_phase(step, progress);
        let policy = PolicySpec { site: phase.site, norm: phase.norm, temperature: self.config.rollout.temperature };
        let loss = LossSpec::from_config(&self.config, policy).in_phase(&phase);
        let processes = self.processes;
        let policy = processes.agreed_first(|| {
            let policy = self.policy_metrics(&groups, &loss.policy)?;
            // Responses that were sampled ahead are of older weights; those were checked when they were handed over.
            if rollout.staleness == Some(0) {
                self.check_difference(policy.sampling_logp_difference)?;
            }
            self.sample_ahead(step + 1)?;
            Ok(policy)
        })?;
        let learning_rate = self.set_learning_rate(step);

        let (mut old_log_probs, mut gradient_steps) = (Duration::ZERO, Duration::ZERO);
        let (updates, advantages_vary, values) = self.within_memory(cut_update, progress, |trainer| {
            let started = Instant::now();
            processes.place(&format!("step {step}, old log-probs"));
            let MiniBatches { batches, advantages_vary, values } =
                mini_batches(trainer, step, &groups, &loss, phase.without_prompt)?;
            old_log_probs = started.elapsed();
            processes.place(&format!("step {step}, gradients"));
            let updates = trainer.update(step, &batches, &trainer.with_entropy_target(&loss, &batches))?;
            gradient_steps = started.elapsed() - old_log_probs;
            Ok((updates, advantages_vary, values))
        })?;
        self.outdate_servers(phase.site);
        let update = updates.metrics();
        self.move_entropy_coefficient(&update);
        let guard = self.guard_phase(step, &rollout, &policy)?;

        let next = self.questions.advance(&self.state.curriculum, drawn_before, self.state.draws, &have_variance)?;
        let problems_dropped = next.as_ref().map(Curriculum::dropped);
        self.state.curriculum = next.unwrap_or_default();

        let memory_peak = self.of_all_processes()?;
        let seconds = started.elapsed().as_secs_f64();
        let is_warmup = self.config.is_critic_warmup(step);
        let mut warnings = reward_warnings(&self.config, &rollout, &update, advantages_vary, is_warmup);
        warnings.append(&mut policy_warnings(&self.config, &policy, &update));
        warnings.append(&mut self.memory_warnings);
        warnings.append(&mut self.server_warnings());
        let timing = Timing {
            tokens_per_second: rollout.tokens as f64 / seconds,
            seconds_rollout: rollout_time.as_secs_f64(),
            seconds_update: seconds - rollout_time.as_secs_f64(),
            parts: StepParts {
                seconds_sampling: Some(rollout_time.saturating_sub(grading + in_rollout).as_secs_f64()),
                seconds_grading: Some(grading.as_secs_f64()),
                seconds_hand_over: self.handing_over().map(|all| (all - handed_over).as_secs_f64()),
                seconds_old_log_probs: Some(old_log_probs.as_secs_f64()),
                seconds_gradient_steps: Some(gradient_steps.as_secs_f64()),
            },
        };
        let metrics = StepMetrics {
            step,
            phase: number,
            site: phase.site,
            groups: groups.len(),
            epoch: self.questions.epoch(self.state.draws),
            problems_dropped,
            grading_failures: self.grading_failures(),
            rollout,
            update,
            critic: CriticMetrics::of(values, updates.critic()),
            policy,
            warnings,
            guard,
            learning_rate,
            timing,
            memory_peak,
        };
        self.record(&metrics)?;
        Ok(metrics)
    }

    /// The largest memory of a process; adds up the failures of their scorers.
    fn of_all_processes(&mut self) -> Result<Option<u64>, RlError> {
        let all = self.processes.gather((peak_memory(), self.questions.failures().count))?;
        let failures = all.iter().map(|(_, failures)| failures).sum::<usize>();
        self.failures_of_others = failures - self.questions.failures().count;
        Ok(all.iter().filter_map(|(memory, _)| *memory).max())
    }

    /// Samples and grades responses of the full policy.
    fn sample(&mut self, step: usize) -> Result<Rollout, RlError> {
        let processes = self.processes;
        processes.agreed_first(|| self.hand_over())?;
        let (settings, seed) = (&self.config.rollout, self.config.seed);
        let mut draws = self.state.draws;
        let first_group = draws * settings.prompts;
        let rollout = {
            let engine = self.engine();
            let own = Sampler::new(engine.as_ref(), &self.tokenizer, &self.model.eos_token_ids);
            let samplers = Samplers { own, processes, first_samples_all: settings.has_servers() };
            rollout(&samplers, self.questions.as_ref(), &self.state.curriculum, settings, seed, step - 1, &mut draws)?
        };
        self.state.draws = draws;
        self.keep_rollouts(&rollout.sampled, step, first_group)?;
        if step == 1 || step.is_multiple_of(COMPLETIONS_EVERY) {
            self.keep_completions(&rollout.groups, step, false)?;
        }
        Ok(rollout)
    }

    /// The phase of a step and its number; reports it at its first step.
    fn enter_phase(&self, step: usize, progress: &mut dyn Progress) -> (usize, Phase) {
        let (number, phase) = self.state.schedule.at(step);
        if step == 1 || number != self.state.schedule.at(step - 1).0 {
            progress.phase(number, &phase, self.state.schedule.steps());
        }
        (number, phase)
    }

    fn set_learning_rate(&mut self, step: usize) -> f64 {
        let factor = self.config.learning_rate_schedule.factor(step, self.state.schedule.steps());
        let learning_rate = self.config.optimizer.learning_rate * factor;
        self.optimizer.set_learning_rate(learning_rate);
        learning_rate
    }

    /// One update per mini-batch, in order, in each epoch.
    fn update(&mut self, step: usize, batches: &[MiniBatch], loss: &LossSpec) -> Result<Updates, RlError> {
        if self.config.is_critic_warmup(step) {
            return Ok(Updates::of_critic(self.update_critic(batches)?));
        }
        let epochs = self.config.update.epochs;
        let mut stats = Vec::with_capacity(epochs * batches.len());
        for batch in (0..epochs).flat_map(|_| batches) {
            let MiniBatch { samples, size, .. } = batch;
            self.set_dropout(Some((step, stats.len())));
            let critic = self.critic.as_mut();
            let (decoder, optimizer) = (&mut self.model.decoder, &mut self.optimizer);
            let update = update_among(decoder, optimizer, critic, samples, size, loss, self.processes);
            self.set_dropout(None);
            let update = update?;
            stats.push(update);
            self.guard_update(step, stats.len(), &update, batch)?;
        }
        let has_target = loss.objective.entropy_target.is_on();
        let parts = LossParts {
            has_reference: self.reference.is_some(),
            chooses_tokens: loss.objective.chooses_tokens(),
            entropy_coefficient: has_target.then_some(loss.objective.entropy_coefficient),
            has_divergence: loss.terms.iter().any(|term| term.divergence().is_some()),
        };
        Ok(Updates::new(stats, batches, parts))
    }

    /// Has the passes of an update, counted from 0 in its step, drop inputs of the adapter, or those of no update none.
    fn set_dropout(&mut self, update: Option<(usize, usize)>) {
        if self.config.lora.dropout == 0.0 {
            return;
        }
        let seed = update.map(|(step, index)| {
            let seed = stream_seed(self.config.seed, Purpose::Dropout, step);
            seed.wrapping_add(((self.processes.rank() as u64) << 48) | ((index as u64) << 32))
        });
        // Moved out, so that the adapter has a single owner and is updated in place.
        let placeholder = self.model.decoder.placeholder();
        self.model.decoder = std::mem::replace(&mut self.model.decoder, placeholder).with_dropout(seed);
    }

    fn record(&mut self, metrics: &StepMetrics) -> Result<(), RlError> {
        self.run.metrics(metrics)?;
        let state = &mut self.run.state;
        state.step = metrics.step;
        state.steps = self.state.schedule.steps();
        state.phase = Some(metrics.phase.to_string());
        state.site = Some(metrics.site.to_string());
        state.last_reward = Some(metrics.rollout.reward).filter(|reward| reward.is_finite());
        self.run.save_state()
    }
}

/// Whether a scorer failed to grade a response, so that nothing is known of its group's variance.
fn has_failure(group: &Group) -> bool {
    group.responses.iter().any(|response| response.failure.is_some())
}
