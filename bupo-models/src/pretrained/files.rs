//! The files of a model: a folder on disk, or files compiled into the program.

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use crate::ModelError;

/// The start of a Git LFS pointer, which stands for a large file that has not been downloaded.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// UTF-8's byte order mark, which some editors write.
pub(super) const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Where a model's files are.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder.
    Folder(PathBuf),
    /// Files compiled into the program: names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// A source that weights can be read from.
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

    /// The text of a file, without a byte order mark.
    ///
    /// # Errors
    /// If it cannot be read, is a Git LFS pointer, or is not UTF-8.
    pub fn text(&self, name: &str) -> Result<String, ModelError> {
        let bytes = self.bytes(name)?;
        self.check_lfs_pointer(name, &bytes)?;
        let text = String::from_utf8(bytes).map_err(|error| ModelError::Json {
            path: self.path(name),
            reason: format!("it is not UTF-8: {error}; save it as UTF-8"),
        })?;
        Ok(text.strip_prefix(BYTE_ORDER_MARK).map(str::to_string).unwrap_or(text))
    }

    /// The first bytes of a file, `count` at most.
    pub(crate) fn head(&self, name: &str, count: u64) -> Result<Vec<u8>, ModelError> {
        let mut bytes = Vec::new();
        self.open(name)?.take(count).read_to_end(&mut bytes).map_err(ModelError::io("read", &self.path(name)))?;
        Ok(bytes)
    }

    /// Checks that a file that starts with `bytes` is not a Git LFS pointer.
    pub(crate) fn check_lfs_pointer(&self, name: &str, bytes: &[u8]) -> Result<(), ModelError> {
        if bytes.starts_with(LFS_POINTER) { Err(ModelError::LfsPointer { path: self.path(name) }) } else { Ok(()) }
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

/// Writes a file into a folder.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), ModelError> {
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(ModelError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_model;
    use crate::pretrained::load_config;
    use burn::backend::Flex;

    const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 4}"#;
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, ModelFiles) {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        let files = ModelFiles::Folder(folder.path().to_path_buf());
        (folder, files)
    }

    #[test]
    fn a_byte_order_mark_is_accepted() {
        let (_folder, files) = folder(&[("config.json", &format!("\u{feff}{CONFIG}"))]);
        assert_eq!(load_config(&files).unwrap(), crate::ModelConfig::from_json(CONFIG).unwrap());
    }

    #[test]
    fn git_lfs_pointers_are_named_in_the_error() {
        let index = r#"{"weight_map": {"lm_head.weight": "model-1.safetensors"}}"#;
        for (files, name) in [
            (vec![("config.json", POINTER)], "config.json"),
            (vec![("config.json", CONFIG), ("model.safetensors", POINTER)], "model.safetensors"),
            (
                vec![
                    ("config.json", CONFIG),
                    ("model.safetensors.index.json", index),
                    ("model-1.safetensors", POINTER),
                ],
                "model-1.safetensors",
            ),
            (vec![("config.json", CONFIG), ("model.safetensors.index.json", POINTER)], "model.safetensors.index.json"),
        ] {
            let (_folder, files) = folder(&files);
            let error = load_model::<Flex>(&files, &Default::default()).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("Git LFS pointer") && error.contains("git lfs pull"),
                "{error}"
            );
        }
        let (_folder, files) = folder(&[("tokenizer.json", POINTER)]);
        let error = crate::TextTokenizer::load(&files).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("Git LFS pointer"), "{error}");
    }
}
