//! Options of `bupo lens`.

use std::path::PathBuf;

use clap::Args;

use super::model::{ModelArgs, NormArgs};

#[derive(Debug, Args)]
pub struct LensArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Text, encoded without a chat template
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Tokens shown per policy
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,
    #[command(flatten)]
    pub norm: NormArgs,
    /// Write the result to this file as JSON instead
    #[arg(long, value_name = "OUT.json")]
    pub json: Option<PathBuf>,
}
