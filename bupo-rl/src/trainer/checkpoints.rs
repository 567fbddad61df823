//! Checkpoints, written while training goes on.

use std::thread::JoinHandle;

use burn::tensor::backend::Backend;

use super::Trainer;
use super::snapshot::Snapshot;
use crate::RlError;
use crate::phases::PhaseGuardMode;

impl<B: Backend> Trainer<B> {
    /// Begins to write a checkpoint. Weights and moments are shared with it, not copied, until training changes them.
    pub(super) fn checkpoint(&mut self) -> Result<(), RlError> {
        self.join_checkpoint_writer()?;
        self.run.sync()?;
        let next = self.state.schedule.at(self.state.step + 1).1.site;
        if self.config.guard.phase_guard == PhaseGuardMode::Rollback && self.guards(next) {
            self.state.guard.checkpointed(self.state.step);
        }
        self.state.grading_failures = self.grading_failures();
        self.state.optimizer_steps =
            self.optimizer.moments().iter().map(|(id, moments)| (*id, moments.steps)).collect();
        let meta =
            serde_json::to_value(&self.state).map_err(|error| RlError::io("write", self.run.path())(error.into()))?;
        let (store, keep, step) = (self.run.checkpoints(), self.config.checkpoint.clone(), self.state.step);
        // The best by evaluations, and what the phase may be rolled back to.
        let best: Vec<usize> = self.state.best.iter().map(|(step, _)| *step).chain(self.state.guard.best).collect();
        let (decoder, assets) = (self.model.decoder.clone(), self.model.assets.clone());
        let moments = self.optimizer.moments().clone();
        self.checkpoint_writer = Some(std::thread::spawn(move || {
            // Before the next update, as a rule: it comes after rollouts, and what it changes is kept twice until then.
            let snapshot = Snapshot::take(&decoder, &moments);
            drop((decoder, moments));
            let pending = store.begin(step)?;
            snapshot.write(&pending, &assets)?;
            pending.commit(env!("CARGO_PKG_VERSION"), meta)?;
            store.prune(keep.keep_last, (keep.keep_every > 0).then_some(keep.keep_every), &best)?;
            Ok(())
        }));
        Ok(())
    }

    /// Waits for the checkpoint that is being written.
    pub(super) fn join_checkpoint_writer(&mut self) -> Result<(), RlError> {
        match self.checkpoint_writer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}
