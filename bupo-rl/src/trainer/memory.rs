//! Where memory gets short while a run goes on, it runs less at once from there on.

use burn::tensor::backend::Backend;

use super::{Progress, Trainer, Warning, WarningKind};
use crate::RlError;
use crate::config::TrainConfig;
use crate::plan::cuts;

/// The share of a device's memory that is left free: what a step takes differs with the lengths of its responses.
const LEFT_FREE: f64 = 0.05;

impl<B: Backend> Trainer<B> {
    /// Where memory is short, has the device give back what it keeps for later: what comes next is measured by itself.
    pub(super) fn make_room(&self, progress: &mut dyn Progress) {
        if is_short(progress) {
            B::memory_cleanup(&self.model.decoder.device());
        }
    }

    /// Where what was just done left little memory, makes it smaller by `cut` from here on, in the run's settings too; nothing is
    /// changed but speed and rounding.
    pub(super) fn spare(
        &mut self,
        cut: fn(&mut TrainConfig) -> bool,
        progress: &mut dyn Progress,
    ) -> Result<Option<Warning>, RlError> {
        let before = self.config.clone();
        if !is_short(progress) || !cut(&mut self.config) {
            return Ok(None);
        }
        self.run.settings(&self.config.to_toml()?)?;
        self.make_room(progress);
        let text = format!("little memory was left free; from here on: {}", cuts(&before, &self.config).join(", "));
        Ok(Some(Warning { kind: WarningKind::Memory, text }))
    }
}

fn is_short(progress: &mut dyn Progress) -> bool {
    progress.memory_free().is_some_and(|share| share < LEFT_FREE)
}
