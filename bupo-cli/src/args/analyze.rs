//! Options of `bupo analyze`.

use std::path::PathBuf;

use clap::Args;

use super::device::{DeviceArgs, DtypeArgs};
use super::model::{AdapterArgs, NormArgs};
use super::responses::ResponseArgs;

#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Model folder or Hub id; repeat it to compare models [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub dtype: DtypeArgs,
    #[command(flatten)]
    pub responses: ResponseArgs,
    #[command(flatten)]
    pub norm: NormArgs,
    /// Run and measure layers 1 to N only, without comparison with the full policy
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// Entropy changes up to this fraction of ln V count as no change
    #[arg(long, value_name = "FRACTION", default_value_t = bupo_analysis::DEFAULT_TOLERANCE)]
    pub tolerance: f64,
    /// Output folder [default: the first free of runs/analysis-1, runs/analysis-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write into a folder that is not empty and overwrite the files of an earlier analysis
    #[arg(long)]
    pub force: bool,
}
