//! A run that gets short of memory makes its batches smaller.

use burn::tensor::backend::Backend;

use super::memory_plan::cuts;
use super::progress::Progress;
use super::{Trainer, Warning, WarningKind};
use crate::RlError;
use crate::config::TrainConfig;

/// The share of a device's memory that is kept free: what a step takes varies with the lengths of its responses.
const KEPT_FREE: f64 = 0.05;

impl<B: Backend> Trainer<B> {
    /// Does memory-intensive work. Where memory is short before it, cached memory is freed; where it is short afterwards, batches
    /// are made smaller by `cut` from here on.
    pub(super) fn within_memory<T>(
        &mut self,
        cut: fn(&mut TrainConfig) -> bool,
        progress: &mut dyn Progress,
        work: impl FnOnce(&mut Self) -> Result<T, RlError>,
    ) -> Result<T, RlError> {
        self.free_cached_memory(progress);
        let done = work(self)?;
        self.shrink_batches_if_low(cut, progress)?;
        Ok(done)
    }

    /// Where memory is short, has the device release the memory it caches for reuse.
    fn free_cached_memory(&self, progress: &mut dyn Progress) {
        if is_short(progress) {
            B::memory_cleanup(&self.model.decoder.device());
        }
    }

    /// Applies `cut` to the settings, in the run's folder too, where little memory is left: it changes speed and rounding alone.
    fn shrink_batches_if_low(
        &mut self,
        cut: fn(&mut TrainConfig) -> bool,
        progress: &mut dyn Progress,
    ) -> Result<(), RlError> {
        let before = self.config.clone();
        if !is_short(progress) || !cut(&mut self.config) {
            return Ok(());
        }
        self.run.settings(&self.config.to_toml()?)?;
        self.free_cached_memory(progress);
        let text = format!("little memory was left free; from here on: {}", cuts(&before, &self.config).join(", "));
        self.memory_warnings.push(Warning { kind: WarningKind::Memory, text });
        Ok(())
    }
}

fn is_short(progress: &mut dyn Progress) -> bool {
    progress.memory_free().is_some_and(|share| share < KEPT_FREE)
}
