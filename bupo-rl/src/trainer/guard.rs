//! The guards of a run: non-finite updates, log-probs that differ between sampling and training, and the phase guard.

use bupo_core::PolicySite;
use bupo_eval::Group;
use burn::tensor::backend::Backend;
use serde_json::json;

use super::metrics::PolicyMetrics;
use super::mini_batch::MiniBatch;
use super::moments::read_moments;
use super::{Trainer, snapshot};
use crate::RlError;
use crate::agree::Agree;
use crate::phases::{Alarm, GuardAction, Observation, PhaseGuardMode, first_responses, sampling_logp_difference};
use crate::rollout::RolloutMetrics;
use crate::update::{PolicySpec, UpdateStats, kl_to_full};

impl<B: Backend> Trainer<'_, B> {
    /// Measures the policies on a few of a step's responses, before its updates.
    pub(super) fn policy_metrics(&self, groups: &[Group], trained: &PolicySpec) -> Result<PolicyMetrics, RlError> {
        let (decoder, max_tokens) = (&self.model.decoder, self.config.update.max_tokens_per_batch);
        let (sequences, sampled) = first_responses(groups);
        let difference = sampling_logp_difference(decoder, &sequences, &sampled, trained.temperature, max_tokens)?;
        let is_internal = trained.site != PolicySite::Full;
        let mut metrics = PolicyMetrics {
            sampling_logp_difference: difference.map(|difference| difference.mean),
            sampling_logp_difference_max: difference.map(|difference| difference.max),
            entropy_full: difference.map(|difference| difference.entropy).filter(|_| is_internal),
            kl_to_full: None,
            drift: None,
        };
        if let Some(initial_policy) = self.state.initial_policy.as_ref().filter(|_| self.guards(trained.site)) {
            metrics.kl_to_full =
                Some(kl_to_full(decoder, &sequences, trained, max_tokens)?).filter(|kl| kl.is_finite());
            metrics.drift = Some(initial_policy.drift(decoder, max_tokens)?);
        }
        Ok(metrics)
    }

    /// Whether the phase guard judges phases that train `site`.
    pub(super) fn guards(&self, site: PolicySite) -> bool {
        self.config.guard.phase_guard != PhaseGuardMode::Off && site != PolicySite::Full
    }

    /// Starts the guard of `step`'s phase. A phase that may be rolled back gets a checkpoint before its first step.
    pub(super) fn start_phase_guard(&mut self, step: usize) -> Result<(), RlError> {
        let (number, phase) = self.state.schedule.at(step);
        self.state.guard.enter(number);
        let rollback = self.config.guard.phase_guard == PhaseGuardMode::Rollback && self.guards(phase.site);
        if rollback && self.state.guard.best.is_none() { self.checkpoint() } else { Ok(()) }
    }

    /// Judges the phase after a step, and acts on an alarm as `guard.phase_guard` says.
    pub(super) fn guard_phase(
        &mut self,
        step: usize,
        rollout: &RolloutMetrics,
        policy: &PolicyMetrics,
    ) -> Result<Option<GuardAction>, RlError> {
        let Some(drift) = policy.drift.filter(|_| rollout.reward.is_finite()) else { return Ok(None) };
        let alarm = self.state.guard.observe(Observation {
            step,
            reward: rollout.reward,
            reward_error: rollout.reward_error,
            perplexity: rollout.perplexity,
            response_length: rollout.response_length,
            truncated: rollout.truncated,
            drift,
        });
        alarm.map(|alarm| self.act_on_alarm(step, &alarm)).transpose()
    }

    fn act_on_alarm(&mut self, step: usize, alarm: &Alarm) -> Result<GuardAction, RlError> {
        let reason = alarm.to_string();
        let mode = self.config.guard.phase_guard;
        if mode == PhaseGuardMode::Warn {
            return Ok(GuardAction::Warned { reason });
        }
        self.state.schedule.end(step);
        if mode == PhaseGuardMode::Switch {
            return Ok(GuardAction::Switched { reason });
        }
        // The checkpoint being written may be the one to restore.
        self.join_checkpoint_writer()?;
        Ok(match self.roll_back() {
            Ok(to_step) => GuardAction::RolledBack { to_step, reason },
            // The phase ends with the present weights.
            Err(error) => GuardAction::Switched { reason: format!("{reason}; not rolled back: {error}") },
        })
    }

    /// Restores weights and moments from the phase's best checkpoint; random numbers, data and steps continue.
    fn roll_back(&mut self) -> Result<usize, RlError> {
        let missing = || RlError::NoData {
            path: self.run.path().join("checkpoints"),
            reason: "the phase has no checkpoint".into(),
        };
        let step = self.state.guard.best.ok_or_else(missing)?;
        let (path, steps, critic) = self.processes.agreed_first(|| {
            let checkpoint = self.run.checkpoints().verify(step).map_err(bupo_runs::RunsError::from)?;
            let state = snapshot::read_state(&checkpoint)?;
            Ok((checkpoint.path, state.optimizer_steps, state.critic))
        })?;
        let device = self.model.decoder.device();
        let moments = read_moments(&path, &steps, &self.optimizer, &device, self.processes)?;
        let decoder = self.model.decoder.clone();
        self.model.decoder = snapshot::read_model(&path, decoder, &self.config, &self.model.config, self.processes)?;
        self.optimizer.restore(moments);
        self.restore_critic(&path, critic.as_ref())?;
        self.outdate_servers(PolicySite::Full);
        Ok(step)
    }

    /// Saves the batch of a skipped update, and fails if too many in a row were skipped.
    pub(super) fn guard_update(
        &mut self,
        step: usize,
        number: usize,
        stats: &UpdateStats,
        batch: &MiniBatch,
    ) -> Result<(), RlError> {
        if !stats.skipped {
            self.state.skipped_in_row = 0;
            return Ok(());
        }
        self.state.skipped_in_row += 1;
        let samples: Vec<_> = batch
            .samples
            .iter()
            .map(|sample| {
                json!({"sequence": sample.sequence, "advantage": sample.advantage, "old_log_probs": sample.old_log_probs})
            })
            .collect();
        // A number that is not finite is null in JSON.
        let record = json!({"loss": stats.loss, "grad_norm": stats.grad_norm, "samples": samples});
        self.run.skipped(step, number, &record)?;
        if self.state.skipped_in_row > self.config.guard.max_skipped {
            return Err(RlError::Diverged {
                updates: self.state.skipped_in_row,
                step,
                folder: self.run.path().join("skipped"),
            });
        }
        Ok(())
    }
}
