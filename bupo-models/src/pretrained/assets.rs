//! What belongs to a model beside its weights: kept from loading to saving, whatever becomes of the folder between.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::ModelFiles;
use super::write::{SaveDtype, write};
use crate::ModelError;

const CONFIG: &str = "config.json";

/// Files saved as they were loaded.
const FILES: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
];

/// A model's config, tokenizer, chat template and generation config, and the dtypes its weights are stored in.
#[derive(Debug, Clone)]
pub struct ModelAssets {
    config: Vec<u8>,
    files: Vec<(&'static str, Vec<u8>)>,
    /// By tensor name.
    pub(super) dtypes: BTreeMap<String, SaveDtype>,
}

impl ModelAssets {
    /// Reads the files there are beside the weights.
    ///
    /// # Errors
    /// If there is no config, or a file cannot be read.
    pub fn read(files: &ModelFiles) -> Result<Self, ModelError> {
        let present = FILES.into_iter().filter(|name| files.has(name));
        Ok(Self {
            config: files.bytes(CONFIG)?,
            files: present.map(|name| Ok((name, files.bytes(name)?))).collect::<Result<_, ModelError>>()?,
            dtypes: BTreeMap::new(),
        })
    }

    /// The same, of weights that are stored in these dtypes.
    pub(super) fn with_dtypes(self, dtypes: BTreeMap<String, SaveDtype>) -> Self {
        Self { dtypes, ..self }
    }

    /// The dtype in which a tensor of the loaded checkpoint is stored; `None` if the checkpoint has no such tensor.
    pub fn stored_dtype(&self, tensor: &str) -> Option<SaveDtype> {
        self.dtypes.get(tensor).copied()
    }

    /// Writes them into a folder; the config says the dtype the weights are in, where that has changed.
    pub(super) fn write(&self, folder: &Path, dtype: Option<SaveDtype>) -> Result<(), ModelError> {
        match dtype {
            None => write(folder, CONFIG, &self.config)?,
            Some(dtype) => write(folder, CONFIG, self.config_with_dtype(folder, dtype)?.as_bytes())?,
        }
        self.files.iter().try_for_each(|(name, bytes)| write(folder, name, bytes))
    }

    /// The config, saying the dtype under whichever name it has it.
    fn config_with_dtype(&self, folder: &Path, dtype: SaveDtype) -> Result<String, ModelError> {
        let mut config: Value = serde_json::from_slice(&self.config).map_err(ModelError::json(&folder.join(CONFIG)))?;
        if let Some(fields) = config.as_object_mut() {
            let name = if fields.contains_key("dtype") { "dtype" } else { "torch_dtype" };
            fields.insert(name.to_string(), dtype.torch_name().into());
        }
        Ok(format!("{config:#}\n"))
    }
}
