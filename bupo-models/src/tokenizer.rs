//! Text to token ids and back, by the tokenizers crate.

use tokenizers::Tokenizer;

use crate::ModelError;
use crate::checkpoint::ModelFiles;

/// A model's `tokenizer.json`.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// If there is none, or it is not one the tokenizers crate reads.
    pub fn load(files: &ModelFiles) -> Result<Self, ModelError> {
        let name = "tokenizer.json";
        let place = files.path(name);
        if !files.has(name) {
            let reason = "there is no such file; text needs a tokenizer (token ids can be given with --tokens)";
            return Err(ModelError::Tokenizer { place, reason: reason.into() });
        }
        let inner = Tokenizer::from_bytes(files.bytes(name)?)
            .map_err(|error| ModelError::Tokenizer { place, reason: error.to_string() })?;
        Ok(Self { inner })
    }

    /// The ids of a text, with whatever tokens the tokenizer puts before and after one.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode(text, true).map_err(|error| Self::failed(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, special tokens left out.
    ///
    /// # Errors
    /// If an id is not the tokenizer's.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, true).map_err(|error| Self::failed(&error))
    }

    /// The id of a token given by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn failed(error: &tokenizers::Error) -> ModelError {
        ModelError::Tokenizer { place: "tokenizer.json".into(), reason: error.to_string() }
    }
}
