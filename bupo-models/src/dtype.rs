//! What a decoder computes in.

use std::fmt;
use std::str::FromStr;

use burn::tensor::DType;
use burn::tensor::backend::{Backend, DTypeUsage};
use serde::{Deserialize, Serialize};

use crate::pretrained::{SaveDtype, stored_dtype};
use crate::{ModelError, ModelFiles};

/// What a decoder's layers compute in: their weights, what passes between them, and the keys and values they keep.
///
/// In f32 whatever this is: norms' statistics, attention's softmax, the unembedding and all that comes of it (logits, log-probs,
/// entropies, losses), the sums of gradients, and while training the parameters themselves and the optimizer's moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeDtype {
    /// 24 bits of precision.
    F32,
    /// 8 bits of precision, the range of f32, half the bytes.
    Bf16,
}

/// A [`ComputeDtype`] as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtypeChoice {
    /// bf16 where the weights are stored so and the device has units for products of it; else f32.
    #[default]
    Auto,
    /// f32.
    F32,
    /// bf16.
    Bf16,
}

impl ComputeDtype {
    /// As tensors have it.
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

impl DtypeChoice {
    /// What is computed in with the model of these files on this device.
    ///
    /// # Errors
    /// If the device does not compute in what is asked for, or what the weights are stored in cannot be read.
    pub fn for_model<B: Backend>(self, files: &ModelFiles, device: &B::Device) -> Result<ComputeDtype, ModelError> {
        self.on::<B>(|| stored_dtype::<B>(files, device), device)
    }

    /// What is computed in on this device with weights that are not stored; auto is f32.
    ///
    /// # Errors
    /// If the device does not compute in what is asked for.
    pub fn for_new<B: Backend>(self, device: &B::Device) -> Result<ComputeDtype, ModelError> {
        self.on::<B>(|| Ok(SaveDtype::F32), device)
    }

    fn on<B: Backend>(
        self,
        stored: impl FnOnce() -> Result<SaveDtype, ModelError>,
        device: &B::Device,
    ) -> Result<ComputeDtype, ModelError> {
        match self {
            Self::F32 => Ok(ComputeDtype::F32),
            Self::Bf16 if computes::<B>(device) => Ok(ComputeDtype::Bf16),
            Self::Bf16 => Err(ModelError::Dtype { backend: B::name(device) }),
            Self::Auto if computes_fast::<B>(device) && stored()? == SaveDtype::Bf16 => Ok(ComputeDtype::Bf16),
            Self::Auto => Ok(ComputeDtype::F32),
        }
    }
}

fn computes<B: Backend>(device: &B::Device) -> bool {
    B::supports_dtype(device, DType::BF16)
}

/// Whether the device has units for products of bf16 matrices, rather than computing them some way.
fn computes_fast<B: Backend>(device: &B::Device) -> bool {
    computes::<B>(device) && B::dtype_usage(device, DType::BF16).contains(DTypeUsage::Accelerated)
}

impl From<ComputeDtype> for DtypeChoice {
    fn from(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::Bf16 => Self::Bf16,
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

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Err("f16 is not computed in, for its range is too small for gradients: write bf16 or f32".into()),
            _ => Err(format!("unknown dtype `{text}`: write auto, f32 or bf16")),
        }
    }
}
