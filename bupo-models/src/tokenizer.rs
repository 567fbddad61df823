//! Text to token ids and back, with the tokenizers crate.

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
    /// Reads `tokenizer.json`. Its `truncation` and `padding` sections are ignored, as in transformers: a text always
    /// gives all of its tokens and no others.
    ///
    /// # Errors
    /// If the file is missing, or the tokenizers crate cannot read it.
    pub fn load(files: &ModelFiles) -> Result<Self, ModelError> {
        let name = "tokenizer.json";
        let place = files.path(name);
        if !files.has(name) {
            let reason = "the file is missing; text needs a tokenizer (token ids can be given with --tokens)";
            return Err(ModelError::Tokenizer { place, reason: reason.into() });
        }
        let failed = |error: tokenizers::Error| ModelError::Tokenizer {
            place,
            reason: format!("no tokenizer can be read from it: {error}; fetch the model again"),
        };
        let read = |text: String| -> tokenizers::Result<Tokenizer> {
            let mut inner: Tokenizer = text.parse()?;
            inner.with_truncation(None)?.with_padding(None);
            Ok(inner)
        };
        Ok(Self { inner: read(files.text(name)?).map_err(failed)? })
    }

    /// The ids of a text, with the special tokens that the tokenizer adds before and after it.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode(text, true).map_err(|error| Self::failed(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a text that a chat template rendered, which contains its special tokens already.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode(text, false).map_err(|error| Self::failed(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot decode an id.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, true).map_err(|error| Self::failed(&error))
    }

    /// The text of one id, special tokens included; an incomplete character decodes to a replacement character.
    ///
    /// # Errors
    /// If the tokenizer cannot decode it.
    pub fn token_text(&self, id: u32) -> Result<String, ModelError> {
        self.inner.decode(&[id], false).map_err(|error| Self::failed(&error))
    }

    /// Checks that every token of the tokenizer is in a model's vocabulary, which may be larger.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, as with the tokenizer of another model.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), ModelError> {
        let highest = self.inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if highest < vocab_size {
            return Ok(());
        }
        let reason = format!(
            "its largest token id is {highest}, outside the model's vocabulary of {vocab_size}; it is not this model's tokenizer"
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
/// If the tokenizers crate cannot build it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_and_padding_sections_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let files = ModelFiles::Folder(folder.path().to_path_buf());
        let load = |sections: serde_json::Value| {
            let (text, ..) = byte_tokenizer_json("<end>").unwrap();
            let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
            for (name, section) in sections.as_object().unwrap() {
                json[name] = section.clone();
            }
            std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
            TextTokenizer::load(&files).unwrap()
        };
        let plain = load(serde_json::json!({}));
        let other = load(serde_json::json!({
            "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
            "padding": {"strategy": {"Fixed": 64}, "direction": "Left", "pad_id": 7, "pad_type_id": 0, "pad_token": "x",
                "pad_to_multiple_of": null},
        }));
        for text in ["a", "several words, more than four tokens"] {
            assert_eq!(plain.encode(text).unwrap().len(), text.len());
            assert_eq!(other.encode(text).unwrap(), plain.encode(text).unwrap());
            assert_eq!(other.encode_rendered(text).unwrap(), plain.encode_rendered(text).unwrap());
        }
    }
}
