//! A Hugging Face `config.json`, read field for field and checked before any weight is.

use serde::Deserialize;
use serde_json::Value;

use crate::ModelError;
use crate::decoder::{Llama3Scaling, RopeConfig};

/// The decoder family a config names in `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Qwen3: RMS norms on queries and keys.
    Qwen3,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// Llama 2 and 3.
    Llama,
}

/// What the decoder needs of a `config.json`. Sizes are counts, not bytes.
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
    /// Whether the unembedding is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward's projections have biases.
    pub mlp_bias: bool,
    /// Ids that end a sequence, as the config has them (a generation config may name others).
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// If it is not such a file, contradicts itself, or asks for a feature the decoder does not have.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let raw: RawConfig = serde_json::from_str(text).map_err(|error| ModelError::Config(error.to_string()))?;
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
            return Err(ModelError::Config(format!("head_dim {} is odd; rotary positions need pairs", self.head_dim)));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(ModelError::Config(format!("rms_norm_eps is {}", self.rms_norm_eps)));
        }
        Ok(())
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

/// The fields as they stand in the file.
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
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    num_experts: Option<Value>,
    num_local_experts: Option<Value>,
    quantization_config: Option<Value>,
    eos_token_id: Option<OneOrMany>,
}

/// `rope_parameters`, or the older `rope_scaling`.
#[derive(Debug, Default, Deserialize)]
struct RawRope {
    rope_type: Option<String>,
    /// The name `rope_type` had before; some files carry both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

impl RawConfig {
    fn family(&self) -> Result<Family, ModelError> {
        match self.model_type.as_deref() {
            Some("qwen3") => Ok(Family::Qwen3),
            Some("qwen2") => Ok(Family::Qwen2),
            Some("llama") => Ok(Family::Llama),
            Some(other) => Err(unsupported(format!("model_type `{other}`"), "use a qwen3, qwen2 or llama checkpoint")),
            None => Err(ModelError::Config("model_type is missing; it must be qwen3, qwen2 or llama".into())),
        }
    }

    fn check_supported(&self) -> Result<(), ModelError> {
        self.family()?;
        if self.num_experts.is_some() || self.num_local_experts.is_some() {
            return Err(unsupported("a mixture of experts".into(), "use a dense checkpoint"));
        }
        if self.quantization_config.is_some() {
            return Err(unsupported("quantization_config".into(), "use the f32, bf16 or f16 checkpoint"));
        }
        if self.use_sliding_window == Some(true) {
            return Err(unsupported(
                "use_sliding_window = true".into(),
                "every layer must attend to the whole sequence",
            ));
        }
        if let Some(kind) = self.layer_types.iter().flatten().find(|kind| *kind != "full_attention") {
            return Err(unsupported(format!("layer type `{kind}`"), "every layer must be full_attention"));
        }
        match self.hidden_act.as_deref() {
            None | Some("silu" | "swish") => Ok(()),
            Some(other) => Err(unsupported(format!("hidden_act `{other}`"), "the feed-forward is SwiGLU with silu")),
        }
    }

    fn resolve(self) -> Result<ModelConfig, ModelError> {
        let family = self.family()?;
        let attention_bias = self.attention_bias.unwrap_or(false);
        Ok(ModelConfig {
            family,
            rope: self.rope()?,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(match family {
                Family::Qwen3 => 128,
                _ => self.hidden_size / self.num_attention_heads.max(1),
            }),
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: family == Family::Qwen2 || attention_bias,
            output_bias: family != Family::Qwen2 && attention_bias,
            mlp_bias: family == Family::Llama && self.mlp_bias.unwrap_or(false),
            eos_token_ids: self.eos_token_id.map(Vec::from).unwrap_or_default(),
        })
    }

    fn rope(&self) -> Result<RopeConfig, ModelError> {
        let raw = match (&self.rope_parameters, &self.rope_scaling) {
            (Some(value), _) | (None, Some(value)) if !value.is_null() => serde_json::from_value(value.clone())
                .map_err(|error| ModelError::Config(format!("rope_parameters / rope_scaling: {error}")))?,
            _ => RawRope::default(),
        };
        if let Some(factor) = raw.partial_rotary_factor.or(self.partial_rotary_factor).filter(|factor| *factor != 1.0) {
            return Err(unsupported(format!("partial_rotary_factor = {factor}"), "whole heads are rotated"));
        }
        let theta = raw.rope_theta.or(self.rope_theta).unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(ModelError::Config(format!("rope_theta is {theta}; it must be positive")));
        }
        if let (Some(new), Some(old)) = (&raw.rope_type, &raw.older_type)
            && new != old
        {
            return Err(ModelError::Config(format!("the rope's rope_type is `{new}` and its type `{old}`")));
        }
        let scaling = match raw.rope_type.as_deref().or(raw.older_type.as_deref()) {
            None | Some("default") => None,
            Some("llama3") => Some(raw.llama3()?),
            Some(other) => return Err(unsupported(format!("rope type `{other}`"), "use default or llama3")),
        };
        Ok(RopeConfig { theta, scaling })
    }
}

impl RawRope {
    fn llama3(&self) -> Result<Llama3Scaling, ModelError> {
        let positive = |name: &str, value: Option<f64>| {
            value
                .filter(|value| value.is_finite() && *value > 0.0)
                .ok_or_else(|| ModelError::Config(format!("llama3 rope scaling needs {name}, a positive number")))
        };
        let scaling = Llama3Scaling {
            factor: positive("factor", self.factor)?,
            low_freq_factor: positive("low_freq_factor", self.low_freq_factor)?,
            high_freq_factor: positive("high_freq_factor", self.high_freq_factor)?,
            original_max_position_embeddings: positive(
                "original_max_position_embeddings",
                self.original_max_position_embeddings,
            )?,
        };
        if scaling.high_freq_factor <= scaling.low_freq_factor {
            return Err(ModelError::Config("llama3 rope scaling: high_freq_factor must exceed low_freq_factor".into()));
        }
        Ok(scaling)
    }
}

fn unsupported(what: String, mend: &str) -> ModelError {
    ModelError::Unsupported { what, mend: mend.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str) -> Result<ModelConfig, ModelError> {
        ModelConfig::from_json(&format!(
            r#"{{"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16,
                "num_hidden_layers": 2, "num_attention_heads": 4{extra}}}"#
        ))
    }

    fn message(extra: &str) -> String {
        config(extra).map_or_else(|error| error.to_string(), |config| format!("accepted: {config:?}"))
    }

    #[test]
    fn defaults_are_those_of_the_family() -> Result<(), ModelError> {
        let config = config("")?;
        assert_eq!((config.head_dim, config.num_key_value_heads), (2, 4));
        assert_eq!(config.rope, RopeConfig { theta: 10_000.0, scaling: None });
        assert!(!config.tie_word_embeddings && !config.qkv_bias);
        Ok(())
    }

    #[test]
    fn both_rope_layouts_say_the_same() -> Result<(), ModelError> {
        let scaling = r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64"#;
        let old = config(&format!(r#", "rope_theta": 300.0, "rope_scaling": {{{scaling}}}"#))?;
        let new = config(&format!(r#", "rope_parameters": {{"rope_theta": 300.0, {scaling}}}"#))?;
        let both = config(&format!(r#", "rope_theta": 300.0, "rope_scaling": {{"type": "llama3", {scaling}}}"#))?;
        assert_eq!((&old.rope, &old.rope), (&new.rope, &both.rope));
        assert!(old.rope.scaling.is_some());
        Ok(())
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (extra, expected) in [
            (r#", "rope_scaling": {"type": "yarn", "factor": 4.0}"#, "rope type `yarn`"),
            (r#", "rope_parameters": {"rope_type": "dynamic"}"#, "rope type `dynamic`"),
            (r#", "use_sliding_window": true, "sliding_window": 4"#, "use_sliding_window"),
            (r#", "layer_types": ["full_attention", "sliding_attention"]"#, "sliding_attention"),
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
    fn contradictions_are_refused() {
        for (extra, expected) in [
            (r#", "num_key_value_heads": 3"#, "not a multiple"),
            (r#", "num_key_value_heads": 0"#, "num_key_value_heads is 0"),
            (r#", "head_dim": 3"#, "head_dim 3 is odd"),
            (r#", "rope_theta": -1.0"#, "rope_theta"),
            (r#", "rope_scaling": {"rope_type": "default", "type": "llama3"}"#, "rope_type is `default`"),
            (r#", "eos_token_id": -1"#, "a token id or a list of token ids"),
            (r#", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}"#, "low_freq_factor"),
        ] {
            let message = message(extra);
            assert!(message.contains(expected), "{message}");
        }
    }
}
