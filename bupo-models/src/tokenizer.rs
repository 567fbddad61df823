//! Text to token ids and back, by the tokenizers crate.

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::ModelError;
use crate::pretrained::ModelFiles;

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

    /// The ids of a text that a chat template rendered, which has its special tokens already.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode(text, false).map_err(|error| Self::failed(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, special tokens left out.
    ///
    /// # Errors
    /// If an id is not the tokenizer's.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, true).map_err(|error| Self::failed(&error))
    }

    /// The text of one id by itself, special tokens included; part of a character shows as a replacement character.
    ///
    /// # Errors
    /// If the tokenizer cannot decode it.
    pub fn token_text(&self, id: u32) -> Result<String, ModelError> {
        self.inner.decode(&[id], false).map_err(|error| Self::failed(&error))
    }

    /// Checks that every token it knows is in a model's vocabulary, which may have more.
    ///
    /// # Errors
    /// If a token is not: the tokenizer is of another model.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), ModelError> {
        let highest = self.inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if highest < vocab_size {
            return Ok(());
        }
        let reason = format!(
            "its token ids reach {highest}, beyond the model's vocabulary of {vocab_size}; it is not this model's tokenizer"
        );
        Err(ModelError::Tokenizer { place: "tokenizer.json".into(), reason })
    }

    fn failed(error: &tokenizers::Error) -> ModelError {
        ModelError::Tokenizer { place: "tokenizer.json".into(), reason: error.to_string() }
    }
}

/// The text of a `tokenizer.json` whose tokens are the 256 bytes and one end-of-sequence token, with the size of its
/// vocabulary and that token's id.
///
/// # Errors
/// If the tokenizers crate refuses its parts.
pub fn byte_tokenizer_json(end: &str) -> Result<(String, usize, u32), ModelError> {
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    let vocab: [(String, u32); 256] = std::array::from_fn(|id| (bytes[id].to_string(), id as u32));
    let model = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().map_err(|e| TextTokenizer::failed(&e))?;
    let mut tokenizer = Tokenizer::new(model);
    let byte_level = ByteLevel::new(false, false, false);
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    tokenizer.add_special_tokens(&[AddedToken::from(end, true)]);
    let id = tokenizer.token_to_id(end).unwrap_or_default();
    let text = tokenizer.to_string(true).map_err(|e| TextTokenizer::failed(&e))?;
    Ok((text, tokenizer.get_vocab_size(true), id))
}
