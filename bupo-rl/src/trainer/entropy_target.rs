//! The coefficient of the entropy bonus, moved towards a target entropy step by step.

use burn::tensor::backend::Backend;

use super::Trainer;
use super::metrics::UpdateMetrics;
use super::mini_batch::MiniBatch;
use crate::update::LossSpec;

impl<B: Backend> Trainer<'_, B> {
    /// The loss of a step with these mini-batches: with `objective.entropy_target`, the coefficient that follows it.
    pub(super) fn with_entropy_target(&self, loss: &LossSpec, batches: &[MiniBatch]) -> LossSpec {
        let mut loss = loss.clone();
        let target = loss.objective.entropy_target;
        if target.is_on() {
            let sum: f64 = batches.iter().filter_map(|batch| batch.entropy_sum).sum();
            let tokens: usize = batches.iter().map(|batch| batch.size.tokens()).sum();
            let coefficient = self.entropy_coefficient();
            loss.objective.entropy_coefficient = target.applied(coefficient, sum / tokens.max(1) as f64);
        }
        loss
    }

    /// Moves the coefficient after a step that made updates.
    pub(super) fn move_entropy_coefficient(&mut self, update: &UpdateMetrics) {
        let target = self.config.objective.entropy_target;
        if let Some(entropy) = update.entropy.filter(|_| target.is_on()) {
            self.state.entropy_coefficient = Some(target.next(self.entropy_coefficient(), entropy));
        }
    }

    /// Before the first step, that of the settings.
    fn entropy_coefficient(&self) -> f64 {
        self.state.entropy_coefficient.unwrap_or(self.config.objective.entropy_coefficient)
    }
}
