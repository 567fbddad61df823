//! The phase guard: detects that a phase that trains an internal policy degrades the full policy.
//!
//! The loss is of an internal policy, but rollouts come from the full policy, so its degradation shows in their metrics. Over-long
//! first phases make a model collapse (arXiv 2512.19673, section 5).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest number of steps whose means are compared: the mean of a single step varies with its prompts.
const WINDOW: usize = 10;
/// The smallest. A phase is judged from its step `2 * MIN_WINDOW` on, so that the guard can act in a phase of 20 steps.
const MIN_WINDOW: usize = 5;
/// The fall of the mean reward below the phase's best window, in standard errors, that raises an alarm. The best of many windows
/// is biased upwards: without any change, 2 of 100 phases of 100 steps raise an alarm at 4.
const REWARD_ERRORS: f64 = 4.0;
/// The factor by which the full policy's perplexity must exceed that of the phase's first window.
const PERPLEXITY_RISE: f64 = 1.5;
/// The increase of the share of truncated responses since the first window.
const TRUNCATED_RISE: f64 = 0.1;
/// The factor by which responses must have become longer or shorter since the first window.
const LENGTH_CHANGE: f64 = 1.5;
/// The drift from the initial policy in nats per token; complete reinforcement-learning runs drift by less.
const DRIFT: f64 = 0.25;

/// Replaces values that are not finite.
const NOT_FINITE: f64 = 1e9;

/// What happens when a phase that trains an internal policy degrades the full policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseGuardMode {
    /// No check.
    Off,
    /// A warning, once per phase.
    Warn,
    /// The phase ends at that step.
    Switch,
    /// The phase ends, and the next one starts from the phase's best checkpoint.
    Rollback,
}

/// The action taken on an alarm of the phase guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum GuardAction {
    /// A warning.
    Warned {
        /// The alarm.
        reason: String,
    },
    /// The phase ended with this step.
    Switched {
        /// The alarm.
        reason: String,
    },
    /// The phase ended with this step, and its updates after `to_step` were undone.
    RolledBack {
        /// The step whose weights and moments were restored.
        to_step: usize,
        /// The alarm.
        reason: String,
    },
}

impl fmt::Display for GuardAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warned { reason } => {
                write!(
                    f,
                    "{reason}: this phase degrades the full policy; guard.phase_guard = \"switch\" or \"rollback\" ends it automatically"
                )
            }
            Self::Switched { reason } => write!(f, "{reason}: the phase ends here"),
            Self::RolledBack { to_step, reason } => {
                write!(f, "{reason}: the phase ends here, and its updates after step {to_step} are undone")
            }
        }
    }
}

/// The full policy's metrics in one step, before the step's updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observation {
    pub(crate) step: usize,
    pub(crate) reward: f64,
    /// Standard error of the reward.
    pub(crate) reward_error: f64,
    pub(crate) perplexity: f64,
    pub(crate) response_length: f64,
    pub(crate) truncated: f64,
    pub(crate) drift: f64,
}

/// An alarm: the last window compared with the phase's first or best window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Alarm {
    Reward { best: f64, until: usize, now: f64, errors: f64, length: usize },
    Perplexity { first: f64, now: f64 },
    Truncated { first: f64, now: f64 },
    Length { first: f64, now: f64 },
    Drift { now: f64 },
}

/// The observations of one phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseGuard {
    phase: usize,
    #[serde(alias = "seen")]
    observations: Vec<Observation>,
    /// Whether the phase has raised its alarm.
    #[serde(alias = "told")]
    alarmed: bool,
    /// The step of the phase's best checkpoint.
    pub(crate) best: Option<usize>,
}

impl PhaseGuard {
    /// Resets the guard if `phase` is a new phase.
    pub(crate) fn enter(&mut self, phase: usize) {
        if self.phase != phase {
            *self = Self { phase, ..Self::default() };
        }
    }

    /// Adds a step's observation. Returns an alarm at most once per phase.
    pub(crate) fn observe(&mut self, observation: Observation) -> Option<Alarm> {
        // Overflow exceeds every limit, and JSON in a checkpoint cannot hold values that are not finite.
        let number = |value: f64| if value.is_finite() { value } else { NOT_FINITE };
        let Observation { perplexity, drift, .. } = observation;
        self.observations.push(Observation { perplexity: number(perplexity), drift: number(drift), ..observation });
        let alarm = if self.alarmed { None } else { judge(&self.observations) };
        self.alarmed |= alarm.is_some();
        alarm
    }

    /// Records a checkpoint as the best if the mean reward of the window before it is higher than that of the best so far.
    pub(crate) fn checkpointed(&mut self, step: usize) {
        let reward = |step: usize| {
            let until = self.observations.iter().rposition(|seen| seen.step <= step).map_or(0, |index| index + 1);
            // For a checkpoint at the phase's start, the window after it is used.
            let until = until.max(WINDOW.min(self.observations.len()));
            mean(&self.observations[until.saturating_sub(WINDOW)..until], |seen| seen.reward)
        };
        if self.best.is_none_or(|best| reward(step) > reward(best)) {
            self.best = Some(step);
        }
    }
}

/// The rule, on a phase's observations so far.
fn judge(observations: &[Observation]) -> Option<Alarm> {
    // As long as two windows that do not overlap allow.
    let length = WINDOW.min(observations.len() / 2);
    if length < MIN_WINDOW {
        return None;
    }
    let (first, now) = (&observations[..length], &observations[observations.len() - length..]);
    let both = |value: fn(&Observation) -> f64| (mean(first, value), mean(now, value));
    let error = |window: &[Observation]| (mean(window, |seen| seen.reward_error.powi(2)) / length as f64).sqrt();
    let reward = mean(now, |seen| seen.reward);
    let best = observations[..observations.len() - length]
        .windows(length)
        .max_by(|a, b| mean(a, |seen| seen.reward).total_cmp(&mean(b, |seen| seen.reward)))?;
    let fallen = mean(best, |seen| seen.reward) - reward;
    let errors = fallen / error(best).hypot(error(now)).max(1e-9);
    if errors > REWARD_ERRORS {
        let until = best.last().map_or(0, |seen| seen.step);
        return Some(Alarm::Reward { best: reward + fallen, until, now: reward, errors, length });
    }
    let (first, now) = both(|seen| seen.perplexity);
    if now > PERPLEXITY_RISE * first {
        return Some(Alarm::Perplexity { first, now });
    }
    let (first, now) = both(|seen| seen.truncated);
    if now > first + TRUNCATED_RISE {
        return Some(Alarm::Truncated { first, now });
    }
    let (first, now) = both(|seen| seen.response_length);
    if now > LENGTH_CHANGE * first || now * LENGTH_CHANGE < first {
        return Some(Alarm::Length { first, now });
    }
    let (_, now) = both(|seen| seen.drift);
    (now > DRIFT).then_some(Alarm::Drift { now })
}

fn mean(window: &[Observation], value: impl Fn(&Observation) -> f64) -> f64 {
    window.iter().map(value).sum::<f64>() / window.len().max(1) as f64
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reward { best, until, now, errors, length } => write!(
                f,
                "the full policy's mean reward over {length} steps fell from {best:.3} (up to step {until}) to {now:.3}, \
                 {errors:.1} standard errors"
            ),
            Self::Perplexity { first, now } => {
                write!(f, "the full policy's perplexity on its own responses rose from {first:.2} to {now:.2}")
            }
            Self::Truncated { first, now } => {
                write!(f, "the share of truncated responses rose from {first:.3} to {now:.3}")
            }
            Self::Length { first, now } => {
                write!(f, "the mean response length went from {first:.1} to {now:.1} tokens")
            }
            Self::Drift { now } => write!(
                f,
                "the full policy's log-probs of its responses before training fell by {now:.2} nats per token"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    /// A policy that is constant except for its reward.
    fn steady(step: usize, reward: f64) -> Observation {
        Observation {
            step,
            reward,
            reward_error: 0.05,
            perplexity: 1.3,
            response_length: 9.0,
            truncated: 0.02,
            drift: 0.02,
        }
    }

    /// The first alarm of a phase.
    fn alarm(steps: impl IntoIterator<Item = Observation>) -> Option<(usize, Alarm)> {
        let mut guard = PhaseGuard::default();
        guard.enter(1);
        steps.into_iter().find_map(|seen| Some((seen.step, guard.observe(seen)?)))
    }

    /// Rewards of a standard error of 0.05 around a mean that changes with the step.
    fn noisy(seed: u64, steps: usize, mean: impl Fn(usize) -> f64) -> Vec<Observation> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = || {
            let mut uniform = || (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
            (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
        };
        (1..=steps).map(|step| steady(step, mean(step) + 0.05 * normal())).collect()
    }

    #[test]
    fn noise_seldom_raises_an_alarm() {
        let false_alarms = (0..400).filter(|seed| alarm(noisy(*seed, 100, |_| 0.5)).is_some()).count();
        assert!((1..=20).contains(&false_alarms), "{false_alarms} of 400");
    }

    #[test]
    fn a_falling_reward_raises_an_alarm_and_a_rising_one_does_not() {
        let falls = |seed| alarm(noisy(seed, 100, |step| 0.5 - 0.2 * (step as f64 / 100.0)));
        let rises = |seed| alarm(noisy(seed, 100, |step| 0.5 + 0.2 * (step as f64 / 100.0)));
        // Rising, then falling: compared with the best window, not the first.
        let turns = |seed| alarm(noisy(seed, 100, |step| 0.7 - 0.3 * (step as f64 / 50.0 - 1.0).abs()));
        let is_reward = |found: Option<(usize, Alarm)>| matches!(found, Some((_, Alarm::Reward { .. })));
        let count =
            |found: &dyn Fn(u64) -> Option<(usize, Alarm)>| (0..50).filter(|seed| is_reward(found(*seed))).count();
        assert!(count(&falls) >= 47, "{}", count(&falls));
        assert!(count(&turns) >= 47, "{}", count(&turns));
        assert_eq!(count(&rises), 0);
    }

    #[test]
    fn each_metric_raises_its_own_alarm_once() {
        type Harm = fn(&mut Observation);
        let signs: [(Harm, &str); 6] = [
            (|seen| (seen.perplexity, seen.drift) = (f64::INFINITY, f64::NAN), "perplexity"),
            (|seen| seen.perplexity = 2.0, "perplexity"),
            (|seen| seen.truncated = 0.2, "truncated responses"),
            (|seen| seen.response_length = 14.0, "response length"),
            (|seen| seen.response_length = 5.0, "response length"),
            (|seen| seen.drift = 0.3, "log-probs of its responses"),
        ];
        for (harm, words) in signs {
            let steps = |harmed_from: usize| {
                (1..=60).map(move |step| {
                    let mut seen = steady(step, 0.5);
                    if step >= harmed_from {
                        harm(&mut seen);
                    }
                    seen
                })
            };
            assert_eq!(alarm(steps(100)), None);
            let (step, found) = alarm(steps(25)).unwrap();
            assert!((25..=34).contains(&step) && found.to_string().contains(words), "{step}: {found}");

            let mut guard = PhaseGuard::default();
            guard.enter(1);
            assert_eq!(steps(25).filter(|seen| guard.observe(*seen).is_some()).count(), 1);
            // A new phase resets the guard.
            guard.enter(2);
            assert_eq!(steps(25).filter(|seen| guard.observe(*seen).is_some()).count(), 1);
        }
    }

    #[test]
    fn observations_survive_a_checkpoint() -> Result<(), serde_json::Error> {
        let mut guard = PhaseGuard::default();
        guard.observe(Observation { perplexity: f64::INFINITY, drift: f64::NAN, ..steady(1, 0.1 + 0.2) });
        let read: PhaseGuard = serde_json::from_value(serde_json::to_value(&guard)?)?;
        assert_eq!(read, guard);
        Ok(())
    }

    #[test]
    fn a_phase_is_not_judged_before_two_windows_of_the_least_length() {
        let falls_after = |last| (1..=2 * WINDOW).map(move |step| steady(step, if step <= last { 1.0 } else { 0.0 }));
        assert_eq!(alarm(falls_after(MIN_WINDOW)).map(|(step, _)| step), Some(2 * MIN_WINDOW));
        // A phase of 20 steps that degrades in its second half is ended before its end.
        let step = alarm(falls_after(WINDOW)).map(|(step, _)| step).unwrap_or_default();
        assert!((WINDOW + 1..WINDOW + 5).contains(&step), "{step}");
    }

    #[test]
    fn a_phase_of_20_steps_seldom_raises_a_false_alarm_and_is_ended_in_time() {
        let alarms = |mean: fn(usize) -> f64| -> Vec<usize> {
            (0..400).filter_map(|seed| alarm(noisy(seed, 20, mean))).map(|(step, _)| step).collect()
        };
        let false_alarms = alarms(|_| 0.5).len();
        assert!(false_alarms <= 4, "{false_alarms} of 400");
        // The reward halves from step 9 to 16.
        let found = alarms(|step| 0.5 - 0.25 * (step.saturating_sub(8) as f64 / 8.0).min(1.0));
        let in_time = found.iter().filter(|step| **step < 20).count();
        assert!(in_time >= 360, "{in_time} of 400");
    }

    #[test]
    fn the_best_checkpoint_has_the_highest_mean_reward_before_it() {
        let mut guard = PhaseGuard::default();
        guard.enter(1);
        guard.checkpointed(0);
        assert_eq!(guard.best, Some(0));
        for step in 1..=60 {
            let reward = if step <= 30 { 0.5 + step as f64 / 100.0 } else { 0.8 - (step - 30) as f64 / 100.0 };
            guard.observe(steady(step, reward));
            if step % 10 == 0 {
                guard.checkpointed(step);
            }
        }
        assert_eq!(guard.best, Some(30));
        guard.enter(1);
        assert_eq!(guard.best, Some(30));
        guard.enter(2);
        assert_eq!(guard.best, None);
    }
}
