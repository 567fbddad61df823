//! The folder a run leaves behind.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bupo_models::{LoadedModel, SaveOptions, save_checkpoint};
use burn::tensor::backend::Backend;
use serde::Serialize;

use crate::RlError;

/// Settings, metrics, completions and the trained model of one run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: JsonLines,
    completions: JsonLines,
    probe: JsonLines,
}

impl RunFolder {
    /// Makes the folder and writes the resolved settings into it, so that what cannot be written is known at once.
    ///
    /// # Errors
    /// If the folder exists and is not empty, or cannot be written.
    pub fn create(path: &Path, config_toml: &str) -> Result<Self, RlError> {
        make_empty_folder(path)?;
        write(&path.join("config.toml"), config_toml)?;
        Ok(Self {
            metrics: JsonLines::create(&path.join("metrics.jsonl"))?,
            completions: JsonLines::create(&path.join("completions.jsonl"))?,
            probe: JsonLines::create(&path.join("probe.jsonl"))?,
            path: path.to_path_buf(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a step's metrics.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn metrics(&mut self, metrics: &impl Serialize) -> Result<(), RlError> {
        self.metrics.append(metrics)
    }

    /// Appends a completion.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn completion(&mut self, completion: &impl Serialize) -> Result<(), RlError> {
        self.completions.append(completion)
    }

    /// Appends what a probe found.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn probe(&mut self, line: &impl Serialize) -> Result<(), RlError> {
        self.probe.append(line)
    }

    /// Writes what the evaluations found.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn evaluations(&self, evaluations: &impl Serialize) -> Result<(), RlError> {
        self.json("evaluation.json", evaluations)
    }

    /// Writes which layer was chosen for the phases that leave it open, and why.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn boundary(&self, boundary: &impl Serialize) -> Result<(), RlError> {
        self.json("boundary.json", boundary)
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<(), RlError> {
        let path = self.path.join(name);
        let text = serde_json::to_string_pretty(value).map_err(|error| RlError::io("write", &path)(error.into()))?;
        write(&path, &format!("{text}\n"))
    }

    /// Saves the trained model as a Hugging Face folder.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn model<B: Backend>(&self, model: &LoadedModel<B>, options: SaveOptions) -> Result<PathBuf, RlError> {
        let folder = self.path.join("model");
        save_checkpoint(&folder, &model.decoder, &model.companions, options)?;
        Ok(folder)
    }
}

/// A file of JSON objects, one a line, each written whole.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Makes the file, which must not exist.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(path: &Path) -> Result<Self, RlError> {
        let file = OpenOptions::new().create_new(true).append(true).open(path).map_err(RlError::io("create", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Opens a file to append to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &Path) -> Result<Self, RlError> {
        let file = OpenOptions::new().append(true).open(path).map_err(RlError::io("write", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), RlError> {
        let line = serde_json::to_string(value).map_err(|error| RlError::io("write", &self.path)(error.into()))?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(RlError::io("write", &self.path))
    }
}

/// Makes a folder, and those above it; one that is there must be empty.
///
/// # Errors
/// If it holds anything, or cannot be made.
pub fn make_empty_folder(path: &Path) -> Result<(), RlError> {
    fs::create_dir_all(path).map_err(RlError::io("create", path))?;
    let mut entries = fs::read_dir(path).map_err(RlError::io("read", path))?;
    if entries.next().is_some() { Err(RlError::FolderExists(path.to_path_buf())) } else { Ok(()) }
}

fn write(path: &Path, text: &str) -> Result<(), RlError> {
    fs::write(path, text).map_err(RlError::io("write", path))
}
