//! What a run looks out for: updates that are not finite, rollouts that are not what is trained, phases that go on for too long.

use bupo_core::PolicySite;
use burn::tensor::backend::Backend;
use serde_json::json;

use super::step::MiniBatch;
use super::{GuardAction, Trainer, Warning, WarningKind};
use crate::RlError;
use crate::batch::{PolicySpec, kl_to_full};
use crate::evaluate::Group;
use crate::phase_guard::{Alarm, Observation, PhaseGuardMode};
use crate::resume;
use crate::rollout::RolloutSummary;
use crate::update::UpdateStats;
use crate::watch::{SamplingGap, sampling_gap, watched};

/// Nats between sampling and training above which the two are not one policy: rounding in f32 is a hundred thousand times less.
const SAMPLING_GAP: f64 = 0.02;
/// How many times more or less probable an update may make a token before it is told of.
const IMPORTANCE_RATIO: f64 = 10.0;

/// What is seen of the full policy at a step, before its updates.
pub(super) struct Watch {
    pub(super) sampling_gap: SamplingGap,
    /// The internal policy that is trained beside the full one.
    pub(super) beside: Option<BesideFull>,
}

pub(super) struct BesideFull {
    /// KL(trained || full) in nats per token; nothing where there were no responses.
    pub(super) kl_to_full: Option<f64>,
    /// How far the full policy has moved since before training, in nats per token.
    pub(super) drift: f64,
}

impl<B: Backend> Trainer<B> {
    /// Looks at a few of a step's responses.
    pub(super) fn watch(&self, groups: &[Group], trained: &PolicySpec) -> Result<Watch, RlError> {
        let (decoder, at_once) = (&self.model.decoder, self.config.update.max_tokens_per_batch);
        let (sequences, sampled) = watched(groups);
        let sampling_gap = sampling_gap(decoder, &sequences, &sampled, trained.temperature, at_once)?;
        let beside = match &self.at.origin {
            Some(origin) if self.guards(trained.site) => Some(BesideFull {
                kl_to_full: Some(kl_to_full(decoder, &sequences, trained, at_once)?).filter(|kl| kl.is_finite()),
                drift: origin.drift(decoder, at_once)?,
            }),
            _ => None,
        };
        Ok(Watch { sampling_gap, beside })
    }

    /// Whether the phase guard looks at phases that train a site.
    pub(super) fn guards(&self, site: PolicySite) -> bool {
        self.config.guard.phase_guard != PhaseGuardMode::Off && site != PolicySite::Full
    }

    /// In a phase that may be rolled back, a checkpoint to go back to, before its first step.
    pub(super) fn guard_begins(&mut self, step: usize) -> Result<(), RlError> {
        let (number, phase) = self.at.schedule.at(step);
        self.at.guard.enter(number);
        let rollback = self.config.guard.phase_guard == PhaseGuardMode::Rollback && self.guards(phase.site);
        if rollback && self.at.guard.best.is_none() { self.checkpoint() } else { Ok(()) }
    }

    /// Judges a phase by a step's rollouts, and does what the settings say once it has gone on for too long.
    pub(super) fn guard_phase(
        &mut self,
        step: usize,
        summary: &RolloutSummary,
        watch: &Watch,
    ) -> Result<Option<GuardAction>, RlError> {
        let Some(beside) = &watch.beside else { return Ok(None) };
        let alarm = self.at.guard.see(Observation {
            step,
            reward: summary.reward,
            reward_error: summary.reward_error,
            perplexity: summary.perplexity,
            response_length: summary.response_length,
            truncated: summary.truncated,
            drift: beside.drift,
        });
        alarm.map(|alarm| self.answer(step, &alarm)).transpose()
    }

    fn answer(&mut self, step: usize, alarm: &Alarm) -> Result<GuardAction, RlError> {
        let reason = alarm.to_string();
        let mode = self.config.guard.phase_guard;
        if mode == PhaseGuardMode::Warn {
            return Ok(GuardAction::Warned { reason });
        }
        self.at.schedule.end(step);
        if mode == PhaseGuardMode::Switch {
            return Ok(GuardAction::Switched { reason });
        }
        // It may be the one that is gone back to.
        self.written()?;
        Ok(match self.roll_back() {
            Ok(to_step) => GuardAction::RolledBack { to_step, reason },
            // The phase ends all the same, with what there is.
            Err(error) => GuardAction::Switched { reason: format!("{reason}; not rolled back: {error}") },
        })
    }

    /// Takes weights and moments from the phase's best checkpoint; random numbers, data and steps go on from here.
    fn roll_back(&mut self) -> Result<usize, RlError> {
        let missing = || RlError::NoData {
            path: self.run.path().join("checkpoints"),
            reason: "there is no checkpoint of this phase".into(),
        };
        let step = self.at.guard.best.ok_or_else(missing)?;
        let checkpoint = self.run.checkpoints().verify(step).map_err(bupo_runs::RunsError::from)?;
        let place = resume::read_place(&checkpoint)?;
        let (device, dtype) = (self.model.decoder.device(), self.model.decoder.computes_in());
        let moments = resume::read_moments(&checkpoint.path, &place.optimizer_steps, &device)?;
        self.model.decoder = resume::read_model(&checkpoint.path, &device)?.computing_in(dtype);
        self.optimizer.restore(moments);
        Ok(step)
    }

    /// Keeps what an update that was left out was made of, and ends the run where too many were.
    pub(super) fn guard_update(
        &mut self,
        step: usize,
        number: usize,
        stats: &UpdateStats,
        batch: &MiniBatch,
    ) -> Result<(), RlError> {
        if !stats.skipped {
            self.at.skipped_in_row = 0;
            return Ok(());
        }
        self.at.skipped_in_row += 1;
        let samples: Vec<_> = batch
            .samples
            .iter()
            .map(|sample| {
                json!({"sequence": sample.sequence, "advantage": sample.advantage, "old_log_probs": sample.old_log_probs})
            })
            .collect();
        // What is not a number is null in JSON.
        let what = json!({"loss": stats.loss, "grad_norm": stats.grad_norm, "samples": samples});
        self.run.skipped(step, number, &what)?;
        if self.at.skipped_in_row > self.config.guard.max_skipped {
            return Err(RlError::Diverged {
                updates: self.at.skipped_in_row,
                step,
                folder: self.run.path().join("skipped"),
            });
        }
        Ok(())
    }
}

/// What looks wrong with a step.
pub(super) fn warnings(gap: &SamplingGap, extreme_ratio: f64, skipped: usize) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |kind, text| warnings.push(Warning { kind, text });
    if gap.mean > SAMPLING_GAP {
        warn(
            WarningKind::SamplingGap,
            format!(
                "a token's log-prob at sampling and at training differ by {:.3} nats on the mean, {:.2} at most: the responses are not \
                 from the policy that is trained, and importance ratios do not know of it; compute both in f32",
                gap.mean, gap.max
            ),
        );
    }
    if !(IMPORTANCE_RATIO.recip()..=IMPORTANCE_RATIO).contains(&extreme_ratio) {
        warn(
            WarningKind::ImportanceRatio,
            format!(
                "an importance ratio of {extreme_ratio:.3}: by its last update the step had moved the policy far from the one that made \
                 the responses, and clipping decides more than rewards do; lower optimizer.learning_rate, or raise \
                 update.mini_batch_prompts for fewer updates a step"
            ),
        );
    }
    if skipped > 0 {
        warn(
            WarningKind::SkippedUpdates,
            format!("{skipped} updates left out, their loss or gradient was not finite; their batches are in skipped/"),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_off_is_warned_of_and_nothing_else() {
        let kinds = |mean: f64, ratio: f64, skipped: usize| -> Vec<WarningKind> {
            warnings(&SamplingGap { mean, max: mean }, ratio, skipped).into_iter().map(|warning| warning.kind).collect()
        };
        assert_eq!(kinds(1e-6, 1.7, 0), []);
        assert_eq!(kinds(0.019, 0.11, 0), []);
        assert_eq!(kinds(0.021, 1.0, 0), [WarningKind::SamplingGap]);
        assert_eq!(kinds(0.0, 0.09, 0), [WarningKind::ImportanceRatio]);
        assert_eq!(kinds(0.0, 11.0, 2), [WarningKind::ImportanceRatio, WarningKind::SkippedUpdates]);
        assert_eq!(kinds(0.0, f64::NAN, 0), [WarningKind::ImportanceRatio]);
    }
}
