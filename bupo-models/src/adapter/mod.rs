//! Low-rank adapters (LoRA) of a decoder, and their files in the layout of PEFT.

mod attach;
mod layers;
mod peft;
mod settings;

use std::collections::BTreeMap;

use burn::tensor::TensorData;

pub use layers::LayerRanges;
pub use peft::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_adapter, write_adapter};
pub use settings::{AdapterConfig, ModuleName, Targets};

/// An adapter on the host: its settings and the matrices of every map it changes.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The settings.
    pub config: AdapterConfig,
    /// `A` `[rank, in]` and `B` `[out, rank]` by layer, from 1, and map.
    pub matrices: BTreeMap<(usize, ModuleName), [TensorData; 2]>,
}
