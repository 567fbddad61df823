//! The fields of a `generation_config.json` that generation uses.

use bupo_core::SamplingParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::files::ModelFiles;
use crate::ModelError;
use crate::families::{ModelConfig, OneOrMany, check_eos_token_ids};

const NAME: &str = "generation_config.json";

/// The sampling parameters that a model's authors recommend; `None` for those they do not give.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RecommendedSampling {
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// [`SamplingParams::top_p`].
    pub top_p: Option<f64>,
    /// [`SamplingParams::top_k`].
    pub top_k: Option<usize>,
    /// [`SamplingParams::min_p`].
    pub min_p: Option<f64>,
    /// [`SamplingParams::repetition_penalty`].
    pub repetition_penalty: Option<f64>,
}

impl RecommendedSampling {
    /// The recommended restrictions; those that are not given are off.
    pub fn params(&self) -> SamplingParams {
        let off = SamplingParams::default();
        SamplingParams {
            top_p: self.top_p.unwrap_or(off.top_p),
            top_k: self.top_k.unwrap_or(off.top_k),
            min_p: self.min_p.unwrap_or(off.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(off.repetition_penalty),
        }
    }
}

/// Reads the recommended sampling parameters of `generation_config.json`; without that file there are none. As in vLLM,
/// `do_sample` is ignored.
///
/// # Errors
/// If the file cannot be read, or a value is out of range.
pub fn load_recommended_sampling(files: &ModelFiles) -> Result<RecommendedSampling, ModelError> {
    #[derive(Deserialize)]
    struct Fields {
        temperature: Option<f64>,
        top_p: Option<f64>,
        /// 0 or -1 is off.
        top_k: Option<i64>,
        min_p: Option<f64>,
        repetition_penalty: Option<f64>,
    }
    let Some(fields) = read::<Fields>(files)? else { return Ok(RecommendedSampling::default()) };
    let wrong = |reason: String| ModelError::Json { path: files.path(NAME), reason };
    if let Some(temperature) = fields.temperature.filter(|t| !(t.is_finite() && *t >= 0.0)) {
        return Err(wrong(format!("temperature is {temperature}; it must not be negative")));
    }
    let recommended = RecommendedSampling {
        temperature: fields.temperature,
        top_p: fields.top_p,
        top_k: fields.top_k.map(|k| usize::try_from(k).unwrap_or(0)),
        min_p: fields.min_p,
        repetition_penalty: fields.repetition_penalty,
    };
    recommended.params().check().map_err(|error| wrong(error.to_string()))?;
    Ok(recommended)
}

/// The ids that end a sequence: those of `generation_config.json`, or else of `config.json`.
///
/// # Errors
/// If `generation_config.json` cannot be read, or an id is outside the vocabulary.
pub fn load_eos_token_ids(files: &ModelFiles, config: &ModelConfig) -> Result<Vec<u32>, ModelError> {
    #[derive(Deserialize)]
    struct Fields {
        eos_token_id: Option<OneOrMany>,
    }
    let Some(ids) = read::<Fields>(files)?.and_then(|fields| fields.eos_token_id) else {
        return Ok(config.eos_token_ids.clone());
    };
    let ids = Vec::from(ids);
    let wrong = |reason| ModelError::Json { path: files.path(NAME), reason };
    check_eos_token_ids(&ids, config.vocab_size).map_err(wrong)?;
    Ok(ids)
}

fn read<T: DeserializeOwned>(files: &ModelFiles) -> Result<Option<T>, ModelError> {
    if !files.has(NAME) {
        return Ok(None);
    }
    serde_json::from_str(&files.text(NAME)?).map(Some).map_err(ModelError::json(&files.path(NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(json: &str, load: impl FnOnce(&ModelFiles) -> Result<T, ModelError>) -> Result<T, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), json).unwrap();
        load(&ModelFiles::Folder(folder.path().to_path_buf())).map_err(|error| error.to_string())
    }

    fn eos(json: &str) -> Result<Vec<u32>, String> {
        let config = r#"{"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16,
            "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": 5}"#;
        with(json, |files| load_eos_token_ids(files, &ModelConfig::from_json(config)?))
    }

    #[test]
    fn end_of_sequence_ids_come_from_the_generation_config_first() {
        assert_eq!(eos("{}"), Ok(vec![5]));
        assert_eq!(eos(r#"{"eos_token_id": null}"#), Ok(vec![5]));
        assert_eq!(eos(r#"{"eos_token_id": 2}"#), Ok(vec![2]));
        assert_eq!(eos(r#"{"eos_token_id": [2, 9]}"#), Ok(vec![2, 9]));
    }

    #[test]
    fn end_of_sequence_ids_outside_the_vocabulary_are_refused() {
        for json in [r#"{"eos_token_id": 10}"#, r#"{"eos_token_id": [2, 10]}"#] {
            let error = eos(json).unwrap_err();
            assert!(error.contains(NAME) && error.contains("eos_token_id 10 is outside"), "{error}");
        }
    }

    #[test]
    fn recommended_sampling_is_read() {
        let read = |json: &str| with(json, load_recommended_sampling);
        assert_eq!(read("{}"), Ok(RecommendedSampling::default()));
        assert!(!RecommendedSampling::default().params().is_active());
        let json = r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05}"#;
        let expected = RecommendedSampling {
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.95),
            min_p: None,
            repetition_penalty: Some(1.05),
        };
        assert_eq!(read(json), Ok(expected));
        assert_eq!(read(r#"{"top_k": -1}"#).map(|r| r.params().is_active()), Ok(false));
        for (json, expected) in [(r#"{"top_p": 1.5}"#, "top_p is 1.5"), (r#"{"temperature": -1}"#, "temperature is -1")]
        {
            let error = read(json).unwrap_err();
            assert!(error.contains(NAME) && error.contains(expected), "{error}");
        }
    }
}
