//! The dtype that a decoder's layers compute in.

use std::fmt;

use burn::tensor::DType;

/// The dtype of a decoder's layers: of their weights in products, their activations, and their keys and values.
///
/// Always f32: norms' statistics, attention's softmax, the unembedding and everything computed from it (logits,
/// log-probs, entropies, losses), the sums of gradients, and in training, by default, the parameters and the
/// optimizer's moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeDtype {
    /// 24 bits of precision.
    F32,
    /// 8 bits of precision, the range of f32, half the bytes.
    Bf16,
}

impl ComputeDtype {
    /// The dtype of tensors.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for ComputeDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
