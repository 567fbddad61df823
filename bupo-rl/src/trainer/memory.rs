//! Smaller batches when little device memory is left.

use burn::tensor::backend::Backend;

use super::progress::Progress;
use super::shrink::cuts;
use super::{Trainer, Warning, WarningKind};
use crate::RlError;
use crate::config::TrainConfig;

/// The share of device memory to keep free: the memory of a step varies with the lengths of its responses.
const KEPT_FREE: f64 = 0.05;

impl<B: Backend> Trainer<'_, B> {
    /// Runs memory-intensive work. If memory is low before it, cached memory is freed; if it is low afterwards, `cut` makes later
    /// batches smaller.
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

    /// If memory is low, has the device release memory that it caches for reuse.
    fn free_cached_memory(&self, progress: &mut dyn Progress) {
        if is_low(progress) {
            B::memory_cleanup(&self.model.decoder.device());
        }
    }

    /// If memory is low, applies `cut` to the settings, also to those in the run folder. Changes only speed and rounding.
    fn shrink_batches_if_low(
        &mut self,
        cut: fn(&mut TrainConfig) -> bool,
        progress: &mut dyn Progress,
    ) -> Result<(), RlError> {
        let before = self.config.clone();
        if !is_low(progress) || !cut(&mut self.config) {
            return Ok(());
        }
        self.run.settings(&self.config.to_toml()?)?;
        self.free_cached_memory(progress);
        let text = format!(
            "less than 5% of memory was free; changed for the following steps: {}",
            cuts(&before, &self.config).join(", ")
        );
        self.memory_warnings.push(Warning { kind: WarningKind::Memory, text });
        Ok(())
    }
}

fn is_low(progress: &mut dyn Progress) -> bool {
    progress.memory_free().is_some_and(|share| share < KEPT_FREE)
}
