//! How the weights of layers that compute in bf16 are kept.

use std::fmt;

use bupo_models::{ComputeDtype, Decoder};
use burn::tensor::DType;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::AdamWSettings;
use crate::RlError;

/// How the weights of layers that compute in bf16 are kept. The embedding, the unembedding, norms and biases are used in f32 and
/// always kept so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightStorage {
    /// In f32, and rounded to bf16 for each use.
    #[default]
    F32Master,
    /// In bf16 only. Each step rounds up or down with probabilities by which it is right on average.
    Stochastic,
}

impl WeightStorage {
    /// Checks that layers compute in bf16 if their weights are kept in it.
    pub(crate) fn check(self, dtype: ComputeDtype) -> Result<(), RlError> {
        if self == Self::Stochastic && dtype != ComputeDtype::Bf16 {
            return Err(RlError::Config(
                "optimizer.weights is \"stochastic\", which keeps weights in bf16, but layers compute in f32; set dtype = \"bf16\", or \
                 weights = \"f32-master\""
                    .into(),
            ));
        }
        Ok(())
    }

    /// A decoder whose weights are kept so.
    pub fn stored<B: Backend>(self, decoder: Decoder<B>) -> Decoder<B> {
        match self {
            Self::F32Master => decoder,
            Self::Stochastic => decoder.with_layer_weights(DType::BF16),
        }
    }

    /// Bytes of a layer's weight.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::F32Master => ComputeDtype::F32.bytes(),
            Self::Stochastic => ComputeDtype::Bf16.bytes(),
        }
    }
}

impl fmt::Display for WeightStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32Master => "f32-master",
            Self::Stochastic => "stochastic",
        })
    }
}

impl AdamWSettings {
    /// Checks that a device has the dtypes of weights and moments, for layers that compute in `dtype`.
    ///
    /// # Errors
    /// If it has not, or weights are to be kept in bf16 and layers compute in f32.
    pub fn check<B: Backend>(&self, dtype: ComputeDtype, device: &B::Device) -> Result<(), RlError> {
        self.weights.check(dtype)?;
        if self.moments.is_on::<B>(device) {
            return Ok(());
        }
        Err(RlError::Config(format!(
            "optimizer.moments is \"{}\", which {} has no tensors of; set it to \"f32\", or choose another --device",
            self.moments,
            B::name(device)
        )))
    }
}
