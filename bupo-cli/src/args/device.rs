//! Options that select the device and the compute dtype.

use bupo_models::DtypeChoice;
use clap::Args;

use crate::backend::DeviceChoice;

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Device: auto, cpu, ndarray, wgpu[:N] or cuda[:N]; auto is the first available of CUDA, a GPU through WGPU, and the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
}

#[derive(Debug, Args)]
pub struct DtypeArgs {
    /// Compute dtype of the layers: auto, f32 or bf16; auto is bf16 if the weights are bf16 and the device accelerates it
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: DtypeChoice,
}
