//! Versions of the weights as Hugging Face folders on a disk that engines read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bupo_models::adapter::{Adapter, write_adapter};
use bupo_models::decoder::NamedTensor;
use bupo_models::{ModelAssets, ModelError, SaveDtype, SaveOptions, save_tensors};
use bupo_runs::sync_folder;

use crate::{EngineError, WeightFolders, Weights, WeightsVersion};

/// The versions kept besides the one that `changed` folders refer to: an engine may still read the one before.
const KEPT: usize = 2;
const PENDING: &str = ".pending-";
const VERSION: &str = "step-";

/// A folder in which each version of the weights is a folder of its own.
#[derive(Debug)]
pub struct WeightsFolder {
    path: PathBuf,
    base: Option<PathBuf>,
    /// Newest last.
    written: Vec<PathBuf>,
}

impl WeightsFolder {
    /// Creates the folder if it is missing, and makes sure that it can be written.
    ///
    /// # Errors
    /// If it cannot be created or written.
    pub fn create(path: &Path) -> Result<Self, EngineError> {
        fs::create_dir_all(path).map_err(EngineError::io("create", path))?;
        // Engines need the absolute path.
        let path = path.canonicalize().map_err(EngineError::io("read", path))?;
        let probe = path.join(format!("{PENDING}{}", std::process::id()));
        fs::create_dir_all(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(EngineError::io("write", &path))?;
        Ok(Self { path, base: None, written: Vec::new() })
    }

    /// Writes a version: into a hidden folder, which is synced and then renamed. Its name is new, so that no engine takes it for
    /// one it has read before. `has_all`: whether `tensors` are all parameters, or those that may differ from the newest version
    /// that had all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(
        &mut self,
        step: usize,
        tensors: Vec<NamedTensor>,
        has_all: bool,
        assets: &ModelAssets,
        dtype: SaveDtype,
    ) -> Result<Weights, EngineError> {
        let options = SaveOptions { dtype: Some(dtype), ..SaveOptions::default() };
        let (version, folder) = self.publish(step, |pending| save_tensors(pending, tensors, assets, options))?;
        let folders = match (&self.base, has_all) {
            (Some(base), false) => WeightFolders::Model { base: base.clone(), changed: Some(folder) },
            _ => {
                self.base = Some(folder.clone());
                WeightFolders::Model { base: folder, changed: None }
            }
        };
        Ok(Weights { version, folders })
    }

    /// Writes a version of an adapter, in the same way.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_adapter(&mut self, step: usize, adapter: &Adapter) -> Result<Weights, EngineError> {
        let (version, folder) = self.publish(step, |pending| write_adapter(pending, adapter, None))?;
        Ok(Weights { version, folders: WeightFolders::Adapter(folder) })
    }

    fn publish(
        &mut self,
        step: usize,
        write: impl FnOnce(&Path) -> Result<(), ModelError>,
    ) -> Result<(WeightsVersion, PathBuf), EngineError> {
        let name = self.new_name(step);
        let (pending, folder) = (self.path.join(format!("{PENDING}{name}")), self.path.join(&name));
        let written = write(&pending).map_err(EngineError::from).and_then(|()| {
            let publish = || {
                for entry in fs::read_dir(&pending)? {
                    File::open(entry?.path())?.sync_all()?;
                }
                sync_folder(&pending)?;
                fs::rename(&pending, &folder)?;
                sync_folder(&self.path)
            };
            publish().map_err(EngineError::io("write", &folder))
        });
        if let Err(error) = written {
            // The first error is returned. A part of a version would only take room.
            let _ = fs::remove_dir_all(&pending);
            return Err(error);
        }
        self.written.push(folder.clone());
        Ok((WeightsVersion { name, step }, folder))
    }

    /// Whether a version that has all parameters has been written.
    pub fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// Deletes all versions but the newest two and the base of the newest.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub fn prune(&self) -> Result<(), EngineError> {
        let kept = &self.written[self.written.len().saturating_sub(KEPT)..];
        for entry in fs::read_dir(&self.path).map_err(EngineError::io("read", &self.path))? {
            let path = entry.map_err(EngineError::io("read", &self.path))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_ours = name.starts_with(PENDING) || name.starts_with(VERSION);
            if is_ours && !kept.contains(&path) && self.base.as_ref() != Some(&path) {
                fs::remove_dir_all(&path).map_err(EngineError::io("delete", &path))?;
            }
        }
        Ok(())
    }

    /// The step, and the time: a resumed run writes the same step again.
    fn new_name(&self, step: usize) -> String {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let named = |extra: u128| format!("{VERSION}{step:06}-{:x}", time + extra);
        (0..).map(named).find(|name| !self.path.join(name).exists()).unwrap_or_default()
    }
}
