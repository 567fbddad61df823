//! The families of decoders.

use std::fmt;

/// The decoder family, `model_type` of the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Qwen3: RMS norms on queries and keys.
    Qwen3,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// Llama 2 and 3.
    Llama,
    /// Mistral without a sliding window.
    Mistral,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qwen3 => "Qwen3",
            Self::Qwen2 => "Qwen2",
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
        })
    }
}
