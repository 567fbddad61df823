//! Options of `bupo config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::device::DeviceArgs;
use super::memory::MemoryArgs;
use super::model::AdapterArgs;
use super::settings::SettingsArgs;

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the phases, updates, tokens and memory of a training run with these settings
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Settings file in TOML, as with --config [default: the default settings]
    #[arg(value_name = "FILE.toml", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Model folder or Hub id, of which only config.json is read [default: the settings']
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}
