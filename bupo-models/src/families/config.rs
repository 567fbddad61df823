//! A Hugging Face `config.json`, checked before any weight is read.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::family::Family;
use super::raw_rope::{OuterFields, rope_config};
use super::rope::RopeConfig;
use crate::ModelError;
use crate::error::json_reason;

/// The fields of a `config.json` that the decoder needs.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The decoder family.
    pub family: Family,
    /// Size of the vocabulary, V.
    pub vocab_size: usize,
    /// Width of the residual stream, d.
    pub hidden_size: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Number of layers, L.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; it divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head, which need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Epsilon of every RMS norm.
    pub rms_norm_eps: f64,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// The longest sequence that the model is made for, in tokens; `None` if the config does not have it.
    pub max_position_embeddings: Option<usize>,
    /// Whether the unembedding is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward's projections have biases.
    pub mlp_bias: bool,
    /// Whether the config says that the weights are stored in bf16.
    pub is_bf16: bool,
    /// Ids that end a sequence; those of a generation config come before them.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// If the text cannot be parsed, contradicts itself, or asks for a feature that the decoder does not have.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let raw: RawConfig = serde_json::from_str(text).map_err(|error| ModelError::Config(json_reason(&error)))?;
        raw.check_supported()?;
        let config = raw.resolve()?;
        config.check_sizes()?;
        Ok(config)
    }

    fn check_sizes(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=1 << 24).contains(size)) {
            return Err(ModelError::Config(format!("{name} is {size}; it must be from 1 to {}", 1 << 24)));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(ModelError::Config(format!(
                "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                self.num_attention_heads, self.num_key_value_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::Config(format!("head_dim is {}; it must be even", self.head_dim)));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(ModelError::Config(format!("rms_norm_eps is {}; it must not be negative", self.rms_norm_eps)));
        }
        if self.max_position_embeddings == Some(0) {
            return Err(ModelError::Config("max_position_embeddings is 0; it must be at least 1".into()));
        }
        check_eos_token_ids(&self.eos_token_ids, self.vocab_size).map_err(ModelError::Config)
    }
}

/// Checks that end-of-sequence ids are in a vocabulary.
pub(crate) fn check_eos_token_ids(ids: &[u32], vocab_size: usize) -> Result<(), String> {
    match ids.iter().find(|id| **id as usize >= vocab_size) {
        Some(id) => Err(format!(
            "eos_token_id {id} is outside the model's vocabulary of {vocab_size}; give the id of its end-of-sequence token"
        )),
        None => Ok(()),
    }
}

/// One id or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a token id or a list of token ids")]
pub(crate) enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl From<OneOrMany> for Vec<u32> {
    fn from(ids: OneOrMany) -> Self {
        match ids {
            OneOrMany::One(id) => vec![id],
            OneOrMany::Many(ids) => ids,
        }
    }
}

/// The fields of the file.
#[derive(Debug, Deserialize)]
#[serde(expecting = "the fields of a model's config")]
struct RawConfig {
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: Option<usize>,
    original_max_position_embeddings: Option<f64>,
    /// `None` if it is missing, `Some(None)` if it is null.
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<usize>>,
    max_window_layers: Option<usize>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    num_experts: Option<Value>,
    num_local_experts: Option<Value>,
    quantization_config: Option<Value>,
    eos_token_id: Option<OneOrMany>,
    dtype: Option<Value>,
    torch_dtype: Option<Value>,
}

impl RawConfig {
    fn family(&self) -> Result<Family, ModelError> {
        match self.model_type.as_deref() {
            Some("qwen3") => Ok(Family::Qwen3),
            Some("qwen2") => Ok(Family::Qwen2),
            Some("llama") => Ok(Family::Llama),
            Some("mistral") => Ok(Family::Mistral),
            Some(other) => {
                Err(unsupported(format!("model_type `{other}`"), "use a qwen3, qwen2, llama or mistral checkpoint"))
            }
            None => Err(ModelError::Config("model_type is missing; it must be qwen3, qwen2, llama or mistral".into())),
        }
    }

    fn check_supported(&self) -> Result<(), ModelError> {
        let family = self.family()?;
        if self.num_experts.is_some() || self.num_local_experts.is_some() {
            return Err(unsupported("a mixture of experts".into(), "use a dense checkpoint"));
        }
        if self.quantization_config.is_some() {
            return Err(unsupported("quantization_config".into(), "use the f32, bf16 or f16 checkpoint"));
        }
        self.check_attention(family)?;
        match self.hidden_act.as_deref() {
            None | Some("silu" | "swish") => Ok(()),
            Some(other) => Err(unsupported(format!("hidden_act `{other}`"), "only silu is supported")),
        }
    }

    /// Checks that no layer has a sliding window, by the rules of transformers.
    fn check_attention(&self, family: Family) -> Result<(), ModelError> {
        let fix = "every layer must attend to the whole sequence";
        // A Mistral config without the field has the default of 4096.
        let window = self.sliding_window.unwrap_or((family == Family::Mistral).then_some(4096));
        if family == Family::Mistral {
            let what = |window| format!("sliding_window = {window}");
            return window.map_or(Ok(()), |window| Err(unsupported(what(window), "it must be null")));
        }
        if let Some(types) = &self.layer_types {
            let other = types.iter().find(|kind| *kind != "full_attention");
            return other.map_or(Ok(()), |kind| Err(unsupported(format!("layer type `{kind}`"), fix)));
        }
        let switched_on = self.use_sliding_window == Some(true) && self.sliding_window != Some(None);
        if switched_on && self.max_window_layers.unwrap_or(28) < self.num_hidden_layers {
            return Err(unsupported("use_sliding_window = true".into(), fix));
        }
        Ok(())
    }

    fn resolve(self) -> Result<ModelConfig, ModelError> {
        let family = self.family()?;
        let attention_bias = matches!(family, Family::Qwen3 | Family::Llama) && self.attention_bias.unwrap_or(false);
        let head_dim = self.head_dim.unwrap_or(match family {
            Family::Qwen3 => 128,
            _ => self.hidden_size / self.num_attention_heads.max(1),
        });
        Ok(ModelConfig {
            family,
            rope: self.rope(head_dim)?,
            max_position_embeddings: self.max_position_embeddings,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: family == Family::Qwen2 || attention_bias,
            output_bias: attention_bias,
            mlp_bias: family == Family::Llama && self.mlp_bias.unwrap_or(false),
            is_bf16: self.dtype.or(self.torch_dtype).is_some_and(|dtype| dtype == "bfloat16"),
            eos_token_ids: self.eos_token_id.map(Vec::from).unwrap_or_default(),
        })
    }

    fn rope(&self, head_dim: usize) -> Result<RopeConfig, ModelError> {
        let outer = OuterFields {
            rope_theta: self.rope_theta,
            partial_rotary_factor: self.partial_rotary_factor,
            max_position_embeddings: self.max_position_embeddings,
            original_max_position_embeddings: self.original_max_position_embeddings,
            head_dim,
        };
        rope_config(self.rope_scaling.as_ref(), self.rope_parameters.as_ref(), outer)
    }
}

/// A field that is there, null or not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn unsupported(what: String, fix: &str) -> ModelError {
    ModelError::Unsupported { what, fix: fix.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::rope::RopeScaling;
    use super::*;

    fn config(extra: &str) -> Result<ModelConfig, ModelError> {
        let family = if extra.contains("model_type") { "" } else { r#""model_type": "llama", "# };
        ModelConfig::from_json(&format!(
            r#"{{{family}"vocab_size": 10, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
                "num_attention_heads": 4{extra}}}"#
        ))
    }

    fn message(extra: &str) -> String {
        config(extra).map_or_else(|error| error.to_string(), |config| format!("accepted: {config:?}"))
    }

    #[test]
    fn defaults_are_those_of_the_family() -> Result<(), ModelError> {
        let config = config("")?;
        assert_eq!((config.head_dim, config.num_key_value_heads), (2, 4));
        assert_eq!(config.rope, RopeConfig { theta: 10_000.0, scaling: RopeScaling::Default });
        assert_eq!(config.max_position_embeddings, None);
        assert!(!config.tie_word_embeddings && !config.qkv_bias);
        Ok(())
    }

    #[test]
    fn both_rope_layouts_are_read_alike() -> Result<(), ModelError> {
        let scaling = r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64"#;
        let old = config(&format!(r#", "rope_theta": 300.0, "rope_scaling": {{{scaling}}}"#))?;
        let new = config(&format!(r#", "rope_parameters": {{"rope_theta": 300.0, {scaling}}}"#))?;
        let both = config(&format!(r#", "rope_theta": 300.0, "rope_scaling": {{"type": "llama3", {scaling}}}"#))?;
        assert_eq!((&old.rope, &old.rope), (&new.rope, &both.rope));
        assert!(matches!(old.rope.scaling, RopeScaling::Llama3(_)));
        Ok(())
    }

    #[test]
    fn unsupported_features_are_named() {
        for (extra, expected) in [
            (r#", "rope_scaling": {"type": "longrope", "factor": 4.0}"#, "rope type `longrope`"),
            (r#", "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 0"#, "use_sliding_window"),
            (r#", "use_sliding_window": true, "max_window_layers": 1"#, "use_sliding_window"),
            (r#", "layer_types": ["full_attention", "sliding_attention"]"#, "sliding_attention"),
            (r#", "model_type": "gemma2""#, "model_type `gemma2`"),
            (r#", "model_type": "mistral", "sliding_window": 4096"#, "sliding_window = 4096"),
            (r#", "model_type": "mistral""#, "sliding_window = 4096"),
            (r#", "num_local_experts": 8"#, "mixture of experts"),
            (r#", "hidden_act": "gelu""#, "hidden_act `gelu`"),
            (r#", "quantization_config": {}"#, "quantization_config"),
            (r#", "partial_rotary_factor": 0.5"#, "partial_rotary_factor"),
        ] {
            let message = message(extra);
            assert!(message.contains(expected) && message.contains("not supported"), "{message}");
        }
    }

    #[test]
    fn sliding_windows_that_are_off_are_accepted() -> Result<(), ModelError> {
        for extra in [
            r#", "use_sliding_window": false, "sliding_window": 4"#,
            r#", "use_sliding_window": true, "sliding_window": null"#,
            r#", "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 2"#,
            r#", "use_sliding_window": true, "sliding_window": 4, "layer_types": ["full_attention", "full_attention"]"#,
            r#", "model_type": "mistral", "sliding_window": null"#,
            r#", "partial_rotary_factor": 1.0"#,
        ] {
            config(extra)?;
        }
        Ok(())
    }

    #[test]
    fn attention_biases_depend_on_the_family() -> Result<(), ModelError> {
        for (family, expected) in
            [("llama", (true, true)), ("qwen3", (true, true)), ("qwen2", (true, false)), ("mistral", (false, false))]
        {
            let extra = format!(r#", "model_type": "{family}", "attention_bias": true, "sliding_window": null"#);
            let config = config(&extra)?;
            assert_eq!((config.qkv_bias, config.output_bias), expected, "{family}");
        }
        Ok(())
    }

    #[test]
    fn end_of_sequence_ids_can_be_absent_null_one_or_several() -> Result<(), ModelError> {
        for (extra, expected) in [
            ("", vec![]),
            (r#", "eos_token_id": null"#, vec![]),
            (r#", "eos_token_id": 9"#, vec![9]),
            (r#", "eos_token_id": [2, 3]"#, vec![2, 3]),
        ] {
            assert_eq!(config(extra)?.eos_token_ids, expected);
        }
        Ok(())
    }

    #[test]
    fn contradictions_are_refused() {
        for (extra, expected) in [
            (r#", "num_key_value_heads": 3"#, "not a multiple"),
            (r#", "num_key_value_heads": 0"#, "num_key_value_heads is 0"),
            (r#", "head_dim": 3"#, "head_dim is 3; it must be even"),
            (r#", "rope_theta": -1.0"#, "rope_theta"),
            (r#", "rope_scaling": {"rope_type": "default", "type": "llama3"}"#, "rope_type is `default`"),
            (r#", "eos_token_id": -1"#, "a token id or a list of token ids"),
            (r#", "eos_token_id": 10"#, "eos_token_id 10 is outside the model's vocabulary of 10"),
            (r#", "eos_token_id": [2, 11]"#, "eos_token_id 11"),
            (r#", "max_position_embeddings": 0"#, "max_position_embeddings is 0"),
            (r#", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}"#, "low_freq_factor"),
            (r#", "rope_scaling": {"rope_type": "linear"}"#, "linear rope scaling needs factor"),
            (r#", "rope_scaling": {"rope_type": "linear", "factor": 0.5}"#, "factor is 0.5; it must be at least 1"),
            (r#", "rope_scaling": {"type": "dynamic", "factor": 2.0}"#, "needs max_position_embeddings"),
            (r#", "rope_scaling": {"type": "yarn", "factor": 2.0}"#, "needs original_max_position_embeddings"),
        ] {
            let message = message(extra);
            assert!(message.contains(expected), "{message}");
        }
    }
}
