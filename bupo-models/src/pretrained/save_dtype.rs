//! The dtypes that weights are stored in.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The dtype weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// 32-bit floats, exactly what was trained.
    F32,
    /// bfloat16, rounded to nearest.
    Bf16,
    /// half precision, rounded to nearest.
    F16,
}

impl FromStr for SaveDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(format!("unknown dtype `{text}`: write f32, bf16 or f16")),
        }
    }
}

impl SaveDtype {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}
