//! Checkpoints that are committed atomically and verified by checksums.

mod folder;
mod manifest;
mod pending;

use std::path::Path;

use folder::Folder;
pub use manifest::{Checkpoint, MANIFEST_FORMAT, Manifest, ManifestFile, digest};
pub use pending::PendingCheckpoint;

use crate::{Damage, Damaged, RunsError};

/// The checkpoints of a run, in `checkpoints/step-000012` and so on in its folder.
///
/// Only the process that holds the run's lock may write; any process may read.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    folder: Folder,
}

/// The newest checkpoint that is not damaged.
#[derive(Debug)]
pub struct Newest {
    /// `None` if there is no undamaged checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The damaged checkpoints that are newer, newest first.
    pub skipped_damaged: Vec<Damaged>,
}

impl CheckpointStore {
    /// The checkpoints of a run. Nothing is created before [`CheckpointStore::begin`].
    pub fn new(run_folder: &Path) -> Self {
        Self { folder: Folder::new(run_folder) }
    }

    /// Begins a checkpoint: creates a hidden folder to write files into, which becomes the checkpoint of `step` by
    /// [`PendingCheckpoint::commit`].
    ///
    /// # Errors
    /// If the run folder does not exist or the folder cannot be created.
    pub fn begin(&self, step: usize) -> Result<PendingCheckpoint, RunsError> {
        self.folder.create()?;
        PendingCheckpoint::begin(self.folder.clone(), step)
    }

    /// The steps that have a checkpoint, newest first. No checkpoint is read.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<usize>, RunsError> {
        self.folder.steps()
    }

    /// Reads every file of a checkpoint and compares it with the manifest.
    ///
    /// # Errors
    /// If a file is missing, differs or cannot be read.
    pub fn verify(&self, step: usize) -> Result<Checkpoint, Damaged> {
        self.check(step, Manifest::verify)
    }

    /// The newest checkpoint that verifies, and the newer checkpoints, which are damaged. Call [`CheckpointStore::clean`]
    /// first if a process may have been killed while it replaced a checkpoint.
    ///
    /// # Errors
    /// If the folder cannot be read. A damaged checkpoint is not an error.
    pub fn newest(&self) -> Result<Newest, RunsError> {
        let mut skipped_damaged = Vec::new();
        for step in self.list()? {
            match self.verify(step) {
                Ok(checkpoint) => return Ok(Newest { checkpoint: Some(checkpoint), skipped_damaged }),
                Err(damaged) => skipped_damaged.push(damaged),
            }
        }
        Ok(Newest { checkpoint: None, skipped_damaged })
    }

    /// Deletes all checkpoints except the newest `keep_last` (at least 1), those of steps divisible by `keep_every`, and
    /// those of the steps in `also_keep`. Returns the deleted steps, newest first.
    ///
    /// A checkpoint with a missing file or a file of the wrong size does not count among the newest. Checksums are not
    /// compared, because that would read every byte. If no checkpoint passes, nothing is deleted, so that the damaged ones
    /// can be repaired by hand.
    ///
    /// # Errors
    /// If a checkpoint cannot be deleted.
    pub fn prune(
        &self,
        keep_last: usize,
        keep_every: Option<usize>,
        also_keep: &[usize],
    ) -> Result<Vec<usize>, RunsError> {
        let mut steps = self.list()?;
        let has_all_files = |step: &usize| self.check(*step, Manifest::check_sizes).is_ok();
        let newest: Vec<_> = steps.iter().copied().filter(has_all_files).take(keep_last.max(1)).collect();
        if newest.is_empty() {
            return Ok(newest);
        }
        steps.retain(|step| {
            let regular = keep_every.is_some_and(|every| step.is_multiple_of(every));
            !(regular || newest.contains(step) || also_keep.contains(step))
        });
        steps.iter().try_for_each(|step| self.remove(*step))?;
        Ok(steps)
    }

    /// Deletes the checkpoint of a step.
    ///
    /// # Errors
    /// If there is none or it cannot be deleted.
    pub fn remove(&self, step: usize) -> Result<(), RunsError> {
        self.folder.remove(&self.folder.checkpoint(step))
    }

    /// Deletes what killed processes left: unfinished and partly deleted checkpoints. Restores a checkpoint that was about
    /// to be replaced. The caller must hold the run's lock and have no [`PendingCheckpoint`].
    ///
    /// # Errors
    /// If an entry cannot be deleted or renamed.
    pub fn clean(&self) -> Result<(), RunsError> {
        self.folder.clean()
    }

    /// Reads the manifest of a step and checks its files with `check_files`.
    fn check(
        &self,
        step: usize,
        check_files: impl FnOnce(&Manifest, &Path) -> Result<(), Damage>,
    ) -> Result<Checkpoint, Damaged> {
        let path = self.folder.checkpoint(step);
        match Manifest::read(&path, step).and_then(|manifest| check_files(&manifest, &path).map(|()| manifest)) {
            Ok(manifest) => Ok(Checkpoint { path, manifest }),
            Err(reason) => Err(Damaged { path, reason }),
        }
    }
}
