//! The learning-rate schedule.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// Warm-up and decay of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearningRateSchedule {
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// The decay after it.
    pub decay: Decay,
    /// The learning rate at the last step, as a share of the highest. With 0, the decay ends one step after the last, so that the
    /// last step still trains.
    pub final_share: f64,
}

/// The shape of the decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// No decay.
    Constant,
    /// Linear.
    Linear,
    /// Half a cosine.
    Cosine,
}

impl Default for LearningRateSchedule {
    fn default() -> Self {
        Self { warmup_steps: 0, decay: Decay::Constant, final_share: 0.0 }
    }
}

impl LearningRateSchedule {
    /// The factor of the highest learning rate at `step` (from 1) of a run of `steps`.
    pub fn factor(&self, step: usize, steps: usize) -> f64 {
        if step <= self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let end = if self.final_share > 0.0 { steps } else { steps + 1 };
        let falling = end.saturating_sub(self.warmup_steps + 1).max(1);
        let done = ((step - self.warmup_steps - 1) as f64 / falling as f64).min(1.0);
        let left = match self.decay {
            Decay::Constant => return 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => (1.0 + (PI * done).cos()) / 2.0,
        };
        self.final_share + (1.0 - self.final_share) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_warms_up_then_decays_to_its_final_share() {
        let of = |decay| LearningRateSchedule { warmup_steps: 4, decay, final_share: 0.1 };
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            let factors: Vec<f64> = (1..=15).map(|step| of(decay).factor(step, 15)).collect();
            assert_eq!(factors[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
            let last = if decay == Decay::Constant { 1.0 } else { 0.1 };
            assert!((factors[14] - last).abs() < 1e-12, "{decay:?}");
            let middle = if decay == Decay::Constant { 1.0 } else { 0.55 };
            assert!((factors[9] - middle).abs() < 1e-12, "{decay:?}");
            assert!(factors[5..].windows(2).all(|pair| pair[1] <= pair[0]));
        }
        assert_eq!(LearningRateSchedule::default().factor(7, 7), 1.0);
    }

    #[test]
    fn a_decay_to_zero_leaves_a_rate_for_the_last_step() {
        for (decay, warmup_steps) in [(Decay::Linear, 0), (Decay::Cosine, 0), (Decay::Linear, 3), (Decay::Cosine, 4)] {
            let schedule = LearningRateSchedule { warmup_steps, decay, final_share: 0.0 };
            for steps in 1..=10 {
                let factors: Vec<f64> = (1..=steps).map(|step| schedule.factor(step, steps)).collect();
                assert!(factors.iter().all(|factor| *factor > 0.0 && *factor <= 1.0), "{schedule:?} {factors:?}");
            }
        }
        let linear = LearningRateSchedule { decay: Decay::Linear, ..Default::default() };
        assert_eq!([1, 2, 3, 4].map(|step| linear.factor(step, 4)), [1.0, 0.75, 0.5, 0.25]);
    }
}
