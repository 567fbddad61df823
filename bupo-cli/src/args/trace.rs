//! Options of `bupo trace`.

use std::path::PathBuf;

use clap::Args;

use super::model::ModelArgs;

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Token ids, [[id, ...], ...], rows of equal length
    #[arg(long, value_name = "IDS.json")]
    pub tokens: PathBuf,
    /// Output file
    #[arg(long, value_name = "OUT.safetensors")]
    pub out: PathBuf,
}
