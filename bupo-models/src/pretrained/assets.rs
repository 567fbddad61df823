//! A model's files other than its weights, read when it is loaded and written when it is saved.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::files::{BYTE_ORDER_MARK, ModelFiles, write};
use super::save_dtype::SaveDtype;
use crate::ModelError;

const CONFIG: &str = "config.json";

/// Files that are saved byte for byte as they were loaded.
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
    /// Reads the config and the other files that are present.
    ///
    /// # Errors
    /// If the config is missing or a file cannot be read.
    pub fn read(files: &ModelFiles) -> Result<Self, ModelError> {
        let present = FILES.into_iter().filter(|name| files.has(name));
        Ok(Self {
            config: files.bytes(CONFIG)?,
            files: present.map(|name| Ok((name, files.bytes(name)?))).collect::<Result<_, ModelError>>()?,
            dtypes: BTreeMap::new(),
        })
    }

    /// The same assets, for weights that are stored in these dtypes.
    pub(super) fn with_dtypes(self, dtypes: BTreeMap<String, SaveDtype>) -> Self {
        Self { dtypes, ..self }
    }

    /// Writes the files into a folder; with a `dtype`, the config is given that dtype.
    pub(super) fn write(&self, folder: &Path, dtype: Option<SaveDtype>) -> Result<(), ModelError> {
        match dtype {
            None => write(folder, CONFIG, &self.config)?,
            Some(dtype) => write(folder, CONFIG, self.config_with_dtype(folder, dtype)?.as_bytes())?,
        }
        self.files.iter().try_for_each(|(name, bytes)| write(folder, name, bytes))
    }

    /// The config with another dtype, in `dtype` or the older `torch_dtype`, whichever field it has.
    fn config_with_dtype(&self, folder: &Path, dtype: SaveDtype) -> Result<String, ModelError> {
        let bytes = self.config.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(&self.config);
        let mut config: Value = serde_json::from_slice(bytes).map_err(ModelError::json(&folder.join(CONFIG)))?;
        if let Some(fields) = config.as_object_mut() {
            let name = if fields.contains_key("dtype") { "dtype" } else { "torch_dtype" };
            fields.insert(name.to_string(), dtype.torch_name().into());
        }
        Ok(format!("{config:#}\n"))
    }
}
