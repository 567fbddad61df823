//! Options of `bupo merge`.

use std::path::PathBuf;

use bupo_models::SaveDtype;
use clap::Args;

use super::device::DeviceArgs;

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Model folder or Hub id that the adapter belongs to [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Adapter folder in PEFT's layout
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// Folder for the merged model; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Dtype of the merged model: f32, bf16 or f16 [default: the dtype of the loaded weights]
    #[arg(long, value_name = "DTYPE")]
    pub save_dtype: Option<SaveDtype>,
    #[command(flatten)]
    pub device: DeviceArgs,
}
