//! The files of a model: a folder on disk, or the one inside the program.

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use crate::ModelError;

/// Where a model's files are.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder.
    Folder(PathBuf),
    /// Files compiled into the program: names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// Anything weights can be read from.
pub(crate) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

impl ModelFiles {
    /// A folder, which must exist.
    ///
    /// # Errors
    /// If it is missing or is not a folder.
    pub fn folder(path: &Path) -> Result<Self, ModelError> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_path_buf()));
        }
        let reason = if path.exists() { "is not a folder" } else { "there is no such folder" };
        Err(ModelError::NoWeights {
            folder: path.to_path_buf(),
            reason: format!("{reason}; give a model folder with config.json and model.safetensors"),
        })
    }

    /// The path of a file, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(name),
            Self::Embedded(_) => Path::new("(embedded model)").join(name),
        }
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Embedded(files) => files.iter().any(|(file, _)| *file == name),
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, ModelError> {
        let mut bytes = Vec::new();
        self.open(name)?.read_to_end(&mut bytes).map_err(ModelError::io("read", &self.path(name)))?;
        Ok(bytes)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// If it cannot be read or is not UTF-8.
    pub fn text(&self, name: &str) -> Result<String, ModelError> {
        String::from_utf8(self.bytes(name)?)
            .map_err(|error| ModelError::Json { path: self.path(name), reason: format!("not UTF-8: {error}") })
    }

    pub(crate) fn open(&self, name: &str) -> Result<Box<dyn ReadSeek>, ModelError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                Ok(Box::new(File::open(&path).map_err(ModelError::io("read", &path))?))
            }
            Self::Embedded(files) => {
                let bytes = files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes);
                let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
                let bytes = bytes.ok_or_else(missing).map_err(ModelError::io("read", &self.path(name)))?;
                Ok(Box::new(Cursor::new(bytes)))
            }
        }
    }
}
