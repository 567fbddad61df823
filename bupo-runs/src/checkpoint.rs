//! Checkpoints that are there whole or not at all.

mod manifest;
mod pending;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;

pub use manifest::{FORMAT, Manifest, ManifestFile};
pub use pending::Pending;

use crate::disk::{parent, sync_folder};
use crate::{Damage, Damaged, RunsError};

// Names of folders that are no checkpoints, which a killed process may leave and `clean` sees to.
const PENDING: &str = ".pending-";
const REPLACED: &str = ".replaced-";
const REMOVED: &str = ".removed-";

/// The checkpoints of a run, at `checkpoints/step-000012` in its folder.
///
/// One process writes to it, the one that holds the run's lock; any may read.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    folder: PathBuf,
}

/// A checkpoint whose every file is what was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// What was written.
    pub manifest: Manifest,
}

/// The newest checkpoint to go on from.
#[derive(Debug)]
pub struct Newest {
    /// None if there is no checkpoint, or no undamaged one.
    pub checkpoint: Option<Checkpoint>,
    /// The newer ones that are damaged, newest first.
    pub passed_over: Vec<Damaged>,
}

impl CheckpointStore {
    /// The checkpoints of a run. Nothing is made before the first one is.
    pub fn new(run_folder: &Path) -> Self {
        Self { folder: run_folder.join("checkpoints") }
    }

    /// Starts a checkpoint: a hidden folder to write files into, which becomes one when it is committed.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn begin(&self, step: usize) -> Result<Pending, RunsError> {
        if !self.folder.exists() {
            fs::create_dir_all(&self.folder).map_err(RunsError::io("create", &self.folder))?;
            sync_folder(parent(&self.folder))?;
        }
        Pending::begin(self.clone(), step)
    }

    /// The steps of which there is a checkpoint, newest first. Nothing in them is read.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<usize>, RunsError> {
        let mut steps: Vec<_> = self.names()?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable_by(|one, other| other.cmp(one));
        Ok(steps)
    }

    /// Reads every file of a checkpoint and compares it with what was written.
    ///
    /// # Errors
    /// If anything is missing, differs or cannot be read.
    pub fn verify(&self, step: usize) -> Result<Checkpoint, Damaged> {
        self.check(step, Manifest::verify)
    }

    /// The newest checkpoint that verifies, and the damaged ones that are newer. Call [`CheckpointStore::clean`] first
    /// where a process may have been killed while it replaced a checkpoint.
    ///
    /// # Errors
    /// If the folder cannot be read; a damaged checkpoint is no error.
    pub fn newest(&self) -> Result<Newest, RunsError> {
        let mut passed_over = Vec::new();
        for step in self.list()? {
            match self.verify(step) {
                Ok(checkpoint) => return Ok(Newest { checkpoint: Some(checkpoint), passed_over }),
                Err(damaged) => passed_over.push(damaged),
            }
        }
        Ok(Newest { checkpoint: None, passed_over })
    }

    /// Deletes all checkpoints but the newest `keep_last`, those of every `keep_every`th step and those of the steps in
    /// `also`. The newest is always kept. Returns the steps deleted.
    ///
    /// One with a file missing or of the wrong size does not count among the newest, so that it takes no good one's
    /// place; checksums are not looked at, which would read every byte. Where no good one is, nothing is deleted: the
    /// damaged ones are all there is to rescue.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub fn prune(&self, keep_last: usize, keep_every: Option<usize>, also: &[usize]) -> Result<Vec<usize>, RunsError> {
        let mut steps = self.list()?;
        let good = |step: &usize| self.check(*step, Manifest::check_sizes).is_ok();
        let newest: Vec<_> = steps.iter().copied().filter(good).take(keep_last.max(1)).collect();
        if newest.is_empty() {
            return Ok(newest);
        }
        steps.retain(|step| {
            let regular = keep_every.is_some_and(|every| step.is_multiple_of(every));
            !(regular || newest.contains(step) || also.contains(step))
        });
        steps.iter().try_for_each(|step| self.remove(*step))?;
        Ok(steps)
    }

    /// Deletes a checkpoint, such as one that is newer than the one a run goes on from.
    ///
    /// # Errors
    /// If there is none or it cannot be deleted.
    pub fn remove(&self, step: usize) -> Result<(), RunsError> {
        self.discard(&self.path(step))
    }

    /// Sees to what killed processes left: deletes unfinished checkpoints and half-deleted ones, and puts back one whose
    /// replacement never came. Only for who holds the run's lock and has no [`Pending`].
    ///
    /// # Errors
    /// If something cannot be deleted or renamed.
    pub fn clean(&self) -> Result<(), RunsError> {
        for name in self.names()? {
            let path = self.folder.join(&name);
            let replaced = name.strip_prefix(REPLACED).and_then(step_of).map(|step| self.path(step));
            if let Some(original) = replaced.filter(|original| !original.exists()) {
                fs::rename(&path, &original).map_err(RunsError::io("rename", &path))?;
            } else if [PENDING, REPLACED, REMOVED].iter().any(|prefix| name.starts_with(prefix)) {
                self.discard(&path)?;
            }
        }
        if self.folder.exists() { sync_folder(&self.folder) } else { Ok(()) }
    }

    fn path(&self, step: usize) -> PathBuf {
        self.folder.join(name_of(step))
    }

    fn check(
        &self,
        step: usize,
        files: impl FnOnce(&Manifest, &Path) -> Result<(), Damage>,
    ) -> Result<Checkpoint, Damaged> {
        let path = self.path(step);
        match Manifest::read(&path, step).and_then(|manifest| files(&manifest, &path).map(|()| manifest)) {
            Ok(manifest) => Ok(Checkpoint { path, manifest }),
            Err(reason) => Err(Damaged { path, reason }),
        }
    }

    /// What is in the folder, which is not there before the first checkpoint.
    fn names(&self) -> Result<Vec<String>, RunsError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(RunsError::io("read", &self.folder))?,
        };
        // What is not UTF-8 was not written here.
        let name =
            |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok()).transpose();
        entries.filter_map(name).collect::<Result<_, _>>().map_err(RunsError::io("read", &self.folder))
    }

    /// Makes what a finished folder holds the checkpoint of its step.
    fn publish(&self, finished: &Path, step: usize) -> Result<(), RunsError> {
        let (path, replaced) = (self.path(step), self.folder.join(format!("{REPLACED}{}", name_of(step))));
        if path.exists() {
            if replaced.exists() {
                self.discard(&replaced)?;
            }
            fs::rename(&path, &replaced).map_err(RunsError::io("rename", &path))?;
        }
        fs::rename(finished, &path).map_err(|error| {
            // The error that is told is the first one; `clean` tries again.
            let _ = fs::rename(&replaced, &path);
            RunsError::io("rename", finished)(error)
        })?;
        sync_folder(&self.folder)?;
        if replaced.exists() {
            // The new one is there, which is what was asked for; `clean` tries again.
            let _ = self.discard(&replaced);
        }
        Ok(())
    }

    /// Deletes a folder, under a name that tells what it is if the process is killed half-way.
    fn discard(&self, path: &Path) -> Result<(), RunsError> {
        let removed = self.free_name(REMOVED);
        fs::rename(path, &removed).map_err(RunsError::io("delete", path))?;
        sync_folder(&self.folder)?;
        fs::remove_dir_all(&removed).map_err(RunsError::io("delete", &removed))
    }

    /// A hidden folder's path that is not taken, by this process or an earlier one of the same number.
    fn free_name(&self, prefix: &str) -> PathBuf {
        let mut count = 0_usize;
        loop {
            let path = self.folder.join(format!("{prefix}{}-{count}", process::id()));
            if !path.exists() {
                return path;
            }
            count += 1;
        }
    }
}

fn name_of(step: usize) -> String {
    format!("step-{step:06}")
}

fn step_of(name: &str) -> Option<usize> {
    // Only the one way to write it: `step-12` is somebody's own folder.
    name.strip_prefix("step-")?.parse().ok().filter(|step| name_of(*step) == name)
}
