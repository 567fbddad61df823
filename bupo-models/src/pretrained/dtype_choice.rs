//! The choice of a compute dtype for a model and a device.

use std::str::FromStr;

use bupo_core::kernels::bf16_unit;
use burn::tensor::DType;
use burn::tensor::backend::{Backend, DTypeUsage};
use serde::{Deserialize, Serialize};

use super::files::ModelFiles;
use super::read::stored_dtype;
use super::save_dtype::SaveDtype;
use crate::{ComputeDtype, ModelError};

/// A requested [`ComputeDtype`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtypeChoice {
    /// bf16 if the weights are stored in it and the device has hardware for bf16 products; else f32.
    #[default]
    Auto,
    /// f32.
    F32,
    /// bf16.
    Bf16,
}

impl DtypeChoice {
    /// The compute dtype for a model on a device.
    ///
    /// # Errors
    /// If the device does not support the requested dtype, or the headers of the weights cannot be read.
    pub fn for_model<B: Backend>(self, files: &ModelFiles, device: &B::Device) -> Result<ComputeDtype, ModelError> {
        self.on::<B>(|| stored_dtype::<B>(files, device), device)
    }

    /// The compute dtype for a model that is not stored, on a device; `Auto` is f32.
    ///
    /// # Errors
    /// If the device does not support the requested dtype.
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

/// Whether the device has hardware for products of bf16 matrices.
fn computes_fast<B: Backend>(device: &B::Device) -> bool {
    let accelerates = || B::dtype_usage(device, DType::BF16).contains(DTypeUsage::Accelerated);
    computes::<B>(device) && (accelerates() || bf16_unit::<B>(device).is_some())
}

impl From<ComputeDtype> for DtypeChoice {
    fn from(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::Bf16 => Self::Bf16,
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Err("f16 is not supported: its range is too small for gradients; write bf16 or f32".into()),
            _ => Err(format!("unknown dtype `{text}`: write auto, f32 or bf16")),
        }
    }
}
