//! Options of `bupo tune-lens`.

use std::path::PathBuf;

use clap::Args;

use super::model::ModelArgs;
use super::responses::ResponseArgs;

#[derive(Debug, Args)]
pub struct TuneLensArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub responses: ResponseArgs,
    /// Number of updates
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub steps: usize,
    /// Responses per update
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub responses_per_step: usize,
    /// Response tokens per update, drawn from its responses
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub tokens: usize,
    /// Learning rate of the first update; it falls to 0
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    pub lr: f64,
    /// Output file [default: tuned_lens/params.safetensors in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite an earlier lens
    #[arg(long)]
    pub force: bool,
}
