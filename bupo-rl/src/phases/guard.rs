//! The rule by which a phase that trains an internal policy has gone on for too long.
//!
//! A layer's policy is trained, but the full policy is what counts, and what training the one does to the other shows in the
//! rollouts, which are the full policy's. Over-long first phases ruin a model (arXiv 2512.19673, section 5).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Steps whose means are compared: a single step's prompts are few, and happen to be hard or easy.
pub(crate) const WINDOW: usize = 10;
/// How many standard errors below the phase's best window the reward must be. The best of many windows is lucky: where nothing
/// changes, 4 are come to in 2 of 100 phases of 100 steps.
const REWARD_ERRORS: f64 = 4.0;
/// By how much the full policy's perplexity must have risen since the phase's first window.
const PERPLEXITY_RISE: f64 = 1.5;
/// How many more of the responses must be cut by the length limit.
const TRUNCATED_RISE: f64 = 0.1;
/// By how much responses must have become longer, or shorter.
const LENGTH_CHANGE: f64 = 1.5;
/// How much less probable the full policy must find a token of its responses before training, in nats; whole trainings by
/// reinforcement move a policy by less.
const DRIFT: f64 = 0.25;

/// In the place of what is not finite.
const BEYOND: f64 = 1e9;

/// What happens when a phase that trains an internal policy starts to hurt the full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseGuardMode {
    /// Nobody looks.
    Off,
    /// It is told of, once a phase.
    Warn,
    /// The phase ends with that step.
    Switch,
    /// The phase ends, and the next one goes on from the phase's best checkpoint.
    Rollback,
}

/// What was done about a phase that has gone on for too long, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum GuardAction {
    /// It was told of.
    Warned {
        /// Why.
        reason: String,
    },
    /// The phase ended with this step.
    Switched {
        /// Why.
        reason: String,
    },
    /// The phase ended with this step, and its updates since `to_step` were taken back.
    RolledBack {
        /// The step whose weights and moments are trained from here on.
        to_step: usize,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for GuardAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warned { reason } => {
                write!(
                    f,
                    "{reason}: this phase hurts the full policy; guard.phase_guard = \"switch\" or \"rollback\" would end it here"
                )
            }
            Self::Switched { reason } => write!(f, "{reason}: the phase ends here"),
            Self::RolledBack { to_step, reason } => {
                write!(f, "{reason}: the phase ends here, and its updates after step {to_step} are taken back")
            }
        }
    }
}

/// What a step's rollouts say of the full policy, before the step's updates.
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

/// Why a phase has gone on for too long: the phase's first steps, or its best, beside the last ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Alarm {
    Reward { best: f64, until: usize, now: f64, errors: f64 },
    Perplexity { first: f64, now: f64 },
    Truncated { first: f64, now: f64 },
    Length { first: f64, now: f64 },
    Drift { now: f64 },
}

/// The rollouts of one phase, and what came of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseGuard {
    phase: usize,
    seen: Vec<Observation>,
    /// Whether the alarm was given.
    told: bool,
    /// The step of the phase's best checkpoint.
    pub(crate) best: Option<usize>,
}

impl PhaseGuard {
    /// Begins anew where a phase does.
    pub(crate) fn enter(&mut self, phase: usize) {
        if self.phase != phase {
            *self = Self { phase, ..Self::default() };
        }
    }

    /// Takes in a step and says, once a phase, that it has gone on for too long.
    pub(crate) fn see(&mut self, observation: Observation) -> Option<Alarm> {
        // A policy that has overflowed is harmed beyond every bound, and a checkpoint holds numbers only.
        let number = |value: f64| if value.is_finite() { value } else { BEYOND };
        let Observation { perplexity, drift, .. } = observation;
        self.seen.push(Observation { perplexity: number(perplexity), drift: number(drift), ..observation });
        let alarm = if self.told { None } else { judge(&self.seen) };
        self.told |= alarm.is_some();
        alarm
    }

    /// Remembers a checkpoint, if the rollouts up to it earned more than those up to the best so far.
    pub(crate) fn checkpointed(&mut self, step: usize) {
        let reward = |step: usize| {
            let until = self.seen.iter().rposition(|seen| seen.step <= step).map_or(0, |index| index + 1);
            // Of one at the phase's beginning, the steps after it tell.
            let until = until.max(WINDOW.min(self.seen.len()));
            mean(&self.seen[until.saturating_sub(WINDOW)..until], |seen| seen.reward)
        };
        if self.best.is_none_or(|best| reward(step) > reward(best)) {
            self.best = Some(step);
        }
    }
}

/// The rule, on a phase's steps so far.
fn judge(seen: &[Observation]) -> Option<Alarm> {
    if seen.len() < 2 * WINDOW {
        return None;
    }
    let (first, now) = (&seen[..WINDOW], &seen[seen.len() - WINDOW..]);
    let both = |value: fn(&Observation) -> f64| (mean(first, value), mean(now, value));
    let error = |window: &[Observation]| (mean(window, |seen| seen.reward_error.powi(2)) / WINDOW as f64).sqrt();
    let reward = mean(now, |seen| seen.reward);
    let best = seen[..seen.len() - WINDOW]
        .windows(WINDOW)
        .max_by(|a, b| mean(a, |seen| seen.reward).total_cmp(&mean(b, |seen| seen.reward)))?;
    let fallen = mean(best, |seen| seen.reward) - reward;
    let errors = fallen / error(best).hypot(error(now)).max(1e-9);
    if errors > REWARD_ERRORS {
        let until = best.last().map_or(0, |seen| seen.step);
        return Some(Alarm::Reward { best: reward + fallen, until, now: reward, errors });
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
            Self::Reward { best, until, now, errors } => write!(
                f,
                "the full policy's mean reward over {WINDOW} steps fell from {best:.3} (up to step {until}) to {now:.3}, \
                 {errors:.1} standard errors"
            ),
            Self::Perplexity { first, now } => {
                write!(f, "the full policy's perplexity on its own responses rose from {first:.2} to {now:.2}")
            }
            Self::Truncated { first, now } => {
                write!(f, "the share of responses cut by the length limit rose from {first:.3} to {now:.3}")
            }
            Self::Length { first, now } => {
                write!(f, "the mean response length went from {first:.1} to {now:.1} tokens")
            }
            Self::Drift { now } => write!(
                f,
                "the full policy finds the tokens of its responses before training {now:.2} nats less probable than it did then"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    /// A policy that nothing happens to, but for its reward.
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
        steps.into_iter().find_map(|seen| Some((seen.step, guard.see(seen)?)))
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
    fn noise_alone_seldom_ends_a_phase() {
        let false_alarms = (0..400).filter(|seed| alarm(noisy(*seed, 100, |_| 0.5)).is_some()).count();
        assert!((1..=20).contains(&false_alarms), "{false_alarms} of 400");
    }

    #[test]
    fn a_reward_that_falls_ends_the_phase_and_one_that_rises_does_not() {
        let falls = |seed| alarm(noisy(seed, 100, |step| 0.5 - 0.2 * (step as f64 / 100.0)));
        let rises = |seed| alarm(noisy(seed, 100, |step| 0.5 + 0.2 * (step as f64 / 100.0)));
        // Up and down again: it is the best that counts, not the beginning.
        let turns = |seed| alarm(noisy(seed, 100, |step| 0.7 - 0.3 * (step as f64 / 50.0 - 1.0).abs()));
        let is_reward = |found: Option<(usize, Alarm)>| matches!(found, Some((_, Alarm::Reward { .. })));
        let count =
            |found: &dyn Fn(u64) -> Option<(usize, Alarm)>| (0..50).filter(|seed| is_reward(found(*seed))).count();
        assert!(count(&falls) >= 47, "{}", count(&falls));
        assert!(count(&turns) >= 47, "{}", count(&turns));
        assert_eq!(count(&rises), 0);
    }

    #[test]
    fn each_sign_of_harm_is_an_alarm_of_its_own_and_is_told_once() {
        type Harm = fn(&mut Observation);
        let signs: [(Harm, &str); 6] = [
            (|seen| (seen.perplexity, seen.drift) = (f64::INFINITY, f64::NAN), "perplexity"),
            (|seen| seen.perplexity = 2.0, "perplexity"),
            (|seen| seen.truncated = 0.2, "cut by the length limit"),
            (|seen| seen.response_length = 14.0, "response length"),
            (|seen| seen.response_length = 5.0, "response length"),
            (|seen| seen.drift = 0.3, "nats less probable"),
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
            assert_eq!(steps(25).filter(|seen| guard.see(*seen).is_some()).count(), 1);
            // Another phase begins anew.
            guard.enter(2);
            assert_eq!(steps(25).filter(|seen| guard.see(*seen).is_some()).count(), 1);
        }
    }

    #[test]
    fn what_was_seen_is_the_same_after_a_checkpoint() -> Result<(), serde_json::Error> {
        let mut guard = PhaseGuard::default();
        guard.see(Observation { perplexity: f64::INFINITY, drift: f64::NAN, ..steady(1, 0.1 + 0.2) });
        let read: PhaseGuard = serde_json::from_value(serde_json::to_value(&guard)?)?;
        assert_eq!(read, guard);
        Ok(())
    }

    #[test]
    fn nothing_is_judged_before_there_are_two_windows() {
        let steps = (1..=2 * WINDOW).map(|step| steady(step, if step <= WINDOW { 1.0 } else { 0.0 }));
        assert_eq!(alarm(steps).map(|(step, _)| step), Some(2 * WINDOW));
    }

    #[test]
    fn the_best_checkpoint_is_the_one_whose_rollouts_earned_most() {
        let mut guard = PhaseGuard::default();
        guard.enter(1);
        guard.checkpointed(0);
        assert_eq!(guard.best, Some(0));
        for step in 1..=60 {
            let reward = if step <= 30 { 0.5 + step as f64 / 100.0 } else { 0.8 - (step - 30) as f64 / 100.0 };
            guard.see(steady(step, reward));
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
