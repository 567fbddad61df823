//! A checkpoint that is being written.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::{Folder, PENDING};
use super::manifest::{Checkpoint, MANIFEST_FORMAT, Manifest, sync_files};
use crate::RunsError;

/// A checkpoint that is being written, in a hidden folder. Dropping it before [`PendingCheckpoint::commit`] deletes the folder.
#[derive(Debug)]
pub struct PendingCheckpoint {
    folder: Folder,
    step: usize,
    path: PathBuf,
    committed: bool,
}

impl PendingCheckpoint {
    pub(super) fn begin(folder: Folder, step: usize) -> Result<Self, RunsError> {
        let path = folder.unused_path(PENDING);
        fs::create_dir(&path).map_err(RunsError::io("create", &path))?;
        Ok(Self { folder, step, path, committed: false })
    }

    /// The folder to write files and folders into.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes the folder as the checkpoint of its step, in place of an older one. On return the checkpoint is complete
    /// and synced.
    ///
    /// `program` is the version of the program, `meta` any metadata of the caller's. All files must be closed. Each file
    /// is read for its checksum and synced, then the manifest is written, then the folder is renamed.
    ///
    /// # Errors
    /// If something cannot be written, or if an entry is neither a file nor a folder or has a name that is not UTF-8. An
    /// older checkpoint of the step then stays.
    pub fn commit(mut self, program: &str, meta: Value) -> Result<Checkpoint, RunsError> {
        let files = sync_files(&self.path)?;
        let (program, step) = (program.to_owned(), self.step);
        let manifest = Manifest { format: MANIFEST_FORMAT, program, step, files, meta };
        manifest.write(&self.path)?;
        self.folder.publish(&self.path, step)?;
        self.committed = true;
        Ok(Checkpoint { path: self.folder.checkpoint(step), manifest })
    }
}

impl Drop for PendingCheckpoint {
    fn drop(&mut self) {
        if !self.committed {
            // If this fails, `clean` tries again.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
