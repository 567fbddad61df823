//! The `checkpoints` folder of a run: names of entries, and atomic publishing and deletion.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;

use crate::RunsError;
use crate::disk::{parent, sync_folder};

// Prefixes of hidden folders that are not checkpoints. A killed process may leave some; `clean` removes them.
pub(super) const PENDING: &str = ".pending-";
const REPLACED: &str = ".replaced-";
const REMOVED: &str = ".removed-";

/// A `checkpoints` folder, which need not exist before [`Folder::create`].
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(run_folder: &Path) -> Self {
        Self { path: run_folder.join("checkpoints") }
    }

    /// Creates the folder if it is missing. The run folder must exist: if it was moved while the run goes on, a new one
    /// in its place would have checkpoints only.
    pub fn create(&self) -> Result<(), RunsError> {
        if self.path.exists() {
            return Ok(());
        }
        fs::create_dir(&self.path).map_err(RunsError::io("create", &self.path))?;
        let parent = parent(&self.path);
        sync_folder(parent).map_err(RunsError::io("write", parent))
    }

    /// The folder of the checkpoint of a step.
    pub fn checkpoint(&self, step: usize) -> PathBuf {
        self.path.join(name_of(step))
    }

    /// The steps that have a checkpoint, newest first. No checkpoint is read.
    pub fn steps(&self) -> Result<Vec<usize>, RunsError> {
        let mut steps: Vec<_> = self.names()?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable_by(|one, other| other.cmp(one));
        Ok(steps)
    }

    /// A path for a hidden folder that does not exist. An earlier process with the same id may have left one.
    pub fn unused_path(&self, prefix: &str) -> PathBuf {
        let mut count = 0_usize;
        loop {
            let path = self.path.join(format!("{prefix}{}-{count}", process::id()));
            if !path.exists() {
                return path;
            }
            count += 1;
        }
    }

    /// Renames a complete folder to the checkpoint of its step, in place of an older one.
    pub fn publish(&self, complete: &Path, step: usize) -> Result<(), RunsError> {
        let (path, replaced) = (self.checkpoint(step), self.path.join(format!("{REPLACED}{}", name_of(step))));
        if path.exists() {
            if replaced.exists() {
                self.remove(&replaced)?;
            }
            fs::rename(&path, &replaced).map_err(RunsError::io("rename", &path))?;
        }
        fs::rename(complete, &path).map_err(|error| {
            // If this fails too, `clean` restores the old checkpoint; the first error is returned.
            let _ = fs::rename(&replaced, &path);
            RunsError::io("rename", complete)(error)
        })?;
        self.sync()?;
        if replaced.exists() {
            // The new checkpoint is in place, so this is no error of the caller's; `clean` tries again.
            let _ = self.remove(&replaced);
        }
        Ok(())
    }

    /// Deletes a folder. It is renamed first, so that a kill during the deletion leaves no incomplete checkpoint.
    pub fn remove(&self, path: &Path) -> Result<(), RunsError> {
        let removed = self.unused_path(REMOVED);
        fs::rename(path, &removed).map_err(RunsError::io("delete", path))?;
        self.sync()?;
        fs::remove_dir_all(&removed).map_err(RunsError::io("delete", &removed))
    }

    /// Deletes the hidden folders of killed processes; restores a checkpoint whose replacement was not published.
    pub fn clean(&self) -> Result<(), RunsError> {
        for name in self.names()? {
            let path = self.path.join(&name);
            let replaced = name.strip_prefix(REPLACED).and_then(step_of).map(|step| self.checkpoint(step));
            if let Some(original) = replaced.filter(|original| !original.exists()) {
                fs::rename(&path, &original).map_err(RunsError::io("rename", &path))?;
            } else if [PENDING, REPLACED, REMOVED].iter().any(|prefix| name.starts_with(prefix)) {
                self.remove(&path)?;
            }
        }
        if self.path.exists() { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), RunsError> {
        sync_folder(&self.path).map_err(RunsError::io("write", &self.path))
    }

    /// The names of the entries; none if the folder does not exist.
    fn names(&self) -> Result<Vec<String>, RunsError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(RunsError::io("read", &self.path))?,
        };
        // Names that are not UTF-8 are not from this crate.
        let name =
            |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok()).transpose();
        entries.filter_map(name).collect::<Result<_, _>>().map_err(RunsError::io("read", &self.path))
    }
}

fn name_of(step: usize) -> String {
    format!("step-{step:06}")
}

/// The step in the name of a checkpoint's folder.
fn step_of(name: &str) -> Option<usize> {
    // Only the exact name that is written: `step-12` is a folder of the user's.
    name.strip_prefix("step-")?.parse().ok().filter(|step| name_of(*step) == name)
}
