//! Checkpoints, written while training goes on.

use std::thread::JoinHandle;

use burn::tensor::backend::Backend;

use super::Trainer;
use crate::RlError;
use crate::phase_guard::PhaseGuardMode;
use crate::resume::Snapshot;

impl<B: Backend> Trainer<B> {
    /// Begins to write a checkpoint. Weights and moments are shared with it, not copied, until training changes them.
    pub(super) fn checkpoint(&mut self) -> Result<(), RlError> {
        self.written()?;
        self.run.sync()?;
        let next = self.at.schedule.at(self.at.step + 1).1.site;
        if self.config.guard.phase_guard == PhaseGuardMode::Rollback && self.guards(next) {
            self.at.guard.checkpointed(self.at.step);
        }
        self.at.grading_failures = self.grading_failures();
        self.at.optimizer_steps = self.optimizer.moments().iter().map(|(id, moments)| (*id, moments.steps)).collect();
        let meta =
            serde_json::to_value(&self.at).map_err(|error| RlError::io("write", self.run.path())(error.into()))?;
        let (store, keep, step) = (self.run.checkpoints(), self.config.checkpoint.clone(), self.at.step);
        // The best by evaluations, and what the phase may be rolled back to.
        let best: Vec<usize> = self.at.best.iter().map(|(step, _)| *step).chain(self.at.guard.best).collect();
        let (decoder, companions) = (self.model.decoder.clone(), self.model.companions.clone());
        let moments = self.optimizer.moments().clone();
        self.writing = Some(std::thread::spawn(move || {
            // Before the next update, as a rule: it comes after rollouts, and what it changes is kept twice until then.
            let snapshot = Snapshot::take(&decoder, &moments);
            drop((decoder, moments));
            let pending = store.begin(step)?;
            snapshot.write(&pending, &companions)?;
            pending.commit(env!("CARGO_PKG_VERSION"), meta)?;
            store.prune(keep.keep_last, (keep.keep_every > 0).then_some(keep.keep_every), &best)?;
            Ok(())
        }));
        Ok(())
    }

    /// Waits for the checkpoint that is being written.
    pub(super) fn written(&mut self) -> Result<(), RlError> {
        match self.writing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}
