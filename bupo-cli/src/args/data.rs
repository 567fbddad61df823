//! Options of `bupo data`.

use std::path::PathBuf;

use clap::Args;

use super::prompt::PromptArgs;
use super::settings::SettingsArgs;

#[derive(Debug, Args)]
#[command(mut_group("SettingsArgs", |group| group.conflicts_with("PromptArgs")))]
pub struct DataArgs {
    /// Parquet or JSONL files [default: data.train and data.validation of the settings]
    #[arg(required_unless_present_any = ["config", "set"], value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Model folder or Hub id of the tokenizer and chat template [default: the settings', the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Training settings, to see the data as `train` reads it; instead of the options below
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub prompts: PromptArgs,
}
