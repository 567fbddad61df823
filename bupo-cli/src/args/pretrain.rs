//! Options of `bupo pretrain`.

use std::path::PathBuf;

use clap::Args;

use super::device::DeviceArgs;

#[derive(Debug, Args)]
pub struct PretrainArgs {
    /// Output folder for the model; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number of updates
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub steps: usize,
    /// Problems per update
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub batch: usize,
    /// Peak learning rate
    #[arg(long, value_name = "X", default_value_t = 2e-3)]
    pub lr: f64,
    /// Hidden size, a multiple of 64
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub hidden: usize,
    /// Number of layers
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub layers: usize,
    /// Maximum number of terms in a problem
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub max_terms: usize,
    /// Largest term in a problem
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub max_number: u32,
    /// Probability of an error in each step of a worked solution
    #[arg(long, value_name = "P", alias = "slips", default_value_t = 0.25)]
    pub slip_rate: f64,
    /// Random seed of weights and problems
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub device: DeviceArgs,
}
