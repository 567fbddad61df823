//! Checkpoints, written by a background thread.

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use bupo_models::decoder::parameter_lengths;
use burn::tensor::backend::Backend;

use super::Trainer;
use super::critic::{CriticState, HostCritic};
use super::moments::{HostMoments, gathered, on_host};
use super::snapshot::Snapshot;
use crate::RlError;
use crate::phases::PhaseGuardMode;

impl<B: Backend> Trainer<'_, B> {
    /// Starts to write a checkpoint, in process 0. It shares weights and moments with the trainer until the next update changes them.
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
        self.state.critic = self.critic.as_ref().map(CriticState::of);
        let gathered = self.gathered_moments()?;
        if !self.processes.is_first() {
            return Ok(());
        }
        let meta =
            serde_json::to_value(&self.state).map_err(|error| RlError::io("write", self.run.path())(error.into()))?;
        let (store, keep, step) = (self.run.checkpoints(), self.config.checkpoint.clone(), self.state.step);
        // The best by evaluation, and the one a rollback of the phase would restore.
        let best: Vec<usize> = self.state.best.iter().map(|(step, _)| *step).chain(self.state.guard.best).collect();
        let (decoder, assets) = (self.model.decoder.clone(), self.model.assets.clone());
        let adapter = self.config.lora.clone();
        let critic = self.critic.as_ref().map(HostCritic::of);
        let moments = if gathered.is_some() { BTreeMap::new() } else { self.optimizer.moments().clone() };
        self.checkpoint_writer = Some(std::thread::spawn(move || {
            // Copied to the host now: tensors that the next update changes are held twice on the device until then.
            let snapshot = Snapshot::take(&decoder, &adapter, gathered.unwrap_or_else(|| on_host(&moments)), critic);
            drop((decoder, moments));
            let pending = store.begin(step)?;
            snapshot.write(&pending, &assets)?;
            pending.commit(env!("CARGO_PKG_VERSION"), meta)?;
            store.prune(keep.keep_last, (keep.keep_every > 0).then_some(keep.keep_every), &best)?;
            Ok(())
        }));
        Ok(())
    }

    /// The whole moments, if each process has a part of them; in the other processes none.
    fn gathered_moments(&self) -> Result<Option<HostMoments>, RlError> {
        if !self.optimizer.is_sharded() {
            return Ok(None);
        }
        self.processes.place("a checkpoint");
        Ok(Some(gathered(&self.optimizer, &parameter_lengths(&self.model.decoder), self.processes)?))
    }

    /// Waits until the checkpoint is written.
    pub(super) fn join_checkpoint_writer(&mut self) -> Result<(), RlError> {
        match self.checkpoint_writer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}
