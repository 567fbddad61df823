//! Options of `bupo sweep`.

use std::path::PathBuf;

use bupo_models::DtypeChoice;
use clap::Args;

use super::device::DeviceArgs;
use super::memory::MemoryArgs;
use super::model::AdapterArgs;
use super::settings::SettingsArgs;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("variants").required(true))]
pub struct SweepArgs {
    /// Train the policy of each of these sites: full, layer:N, attn:N, ffn:N, or layers in a row such as layer:1-6
    #[arg(long, value_name = "SITE,...", value_delimiter = ',', group = "variants")]
    pub sites: Vec<String>,
    /// Train the parameters of each of these layers alone, by the loss of the full policy: 3, 1-6, or all for all of them together
    #[arg(long, value_name = "N,...", value_delimiter = ',', group = "variants")]
    pub layers: Vec<String>,
    /// Seeds of each site or layer
    #[arg(long, value_name = "SEED,...", value_delimiter = ',', default_value = "0,1,2")]
    pub seeds: Vec<u64>,
    /// Steps of each run [default: those of the settings' first phase, which is the phase of all runs]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Model folder or Hub id [default: the settings', the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// Compute dtype of the layers: auto, f32 or bf16; parameters and moments are f32 [default: the settings', auto]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<DtypeChoice>,
    /// Folder of the sweep; an unfinished sweep with the same options in it goes on [default: the first free of runs/sweep-1,
    /// runs/sweep-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep the model and the checkpoints of finished runs, which take most of the space
    #[arg(long)]
    pub keep_models: bool,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}
