//! A checkpoint that is being written.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::manifest::{FORMAT, Manifest, files_on_disk};
use super::{Checkpoint, CheckpointStore, PENDING};
use crate::RunsError;

/// A checkpoint that is being written, in a hidden folder. Dropping it before it is committed deletes the folder.
#[derive(Debug)]
pub struct Pending {
    store: CheckpointStore,
    step: usize,
    path: PathBuf,
    committed: bool,
}

impl Pending {
    pub(super) fn begin(store: CheckpointStore, step: usize) -> Result<Self, RunsError> {
        let path = store.free_name(PENDING);
        fs::create_dir(&path).map_err(RunsError::io("create", &path))?;
        Ok(Self { store, step, path, committed: false })
    }

    /// The folder to write files and folders into.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the checkpoint of its step, in place of an older one: when this returns it is on the disk, whole.
    ///
    /// `program` is the version of the program that writes it, and `meta` whatever the caller wants to read back. The
    /// caller has closed the files. Each is read once more for its checksum, then put on the disk; the manifest is
    /// written after all of them and the folder gets its name last.
    ///
    /// # Errors
    /// If something cannot be written, is neither a file nor a folder, or has a name that is not UTF-8. What was there
    /// stays.
    pub fn commit(mut self, program: &str, meta: Value) -> Result<Checkpoint, RunsError> {
        let files = files_on_disk(&self.path)?;
        let manifest = Manifest { format: FORMAT, program: program.to_owned(), step: self.step, files, meta };
        manifest.write(&self.path)?;
        self.store.publish(&self.path, self.step)?;
        self.committed = true;
        Ok(Checkpoint { path: self.store.path(self.step), manifest })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is hidden, and `clean` tries again.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
