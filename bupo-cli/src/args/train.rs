//! Options of `bupo train`.

use std::path::PathBuf;

use bupo_models::{DtypeChoice, SaveDtype};
use clap::{Args, ValueEnum};

use super::device::DeviceArgs;
use super::memory::MemoryArgs;
use super::model::AdapterArgs;
use super::settings::SettingsArgs;
use crate::distributed::DistBackend;

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// bupo, or grpo with the same number of steps [default: the settings', bupo]
    #[arg(long)]
    pub algorithm: Option<AlgorithmArg>,
    /// Random seed [default: the settings', 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Model folder or Hub id [default: the settings', the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// Compute dtype of the layers: auto, f32 or bf16; parameters and moments are f32 [default: the settings', auto]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<DtypeChoice>,
    /// Dtype of the saved model: f32, bf16 or f16 [default: the dtype of the loaded weights]
    #[arg(long, value_name = "DTYPE")]
    pub save_dtype: Option<SaveDtype>,
    /// Run folder; must not exist or be empty [default: the first free of runs/bupo-1, runs/bupo-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Resume a stopped run from its newest checkpoint; --set can change some settings, for example --set phases.1.steps=200
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = ["config", "algorithm", "seed", "model", "adapter", "dtype", "save_dtype", "out", "fork", "from_step"]
    )]
    pub resume: Option<PathBuf>,
    /// Start a new run from a checkpoint of another run, with its settings and any changes
    #[arg(long, value_name = "RUN", conflicts_with = "config")]
    pub fork: Option<PathBuf>,
    /// Step of the checkpoint that --fork starts from [default: the newest]
    #[arg(long, value_name = "N", requires = "fork")]
    pub from_step: Option<usize>,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Print phases, tokens and memory as `config check` does, without training
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// What connects the processes that mpirun, torchrun or srun starts
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub dist_backend: DistBackend,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AlgorithmArg {
    Bupo,
    Grpo,
}
