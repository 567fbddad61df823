//! Options of `bupo data`.

use std::path::PathBuf;

use clap::Args;

use super::prompt::PromptArgs;

#[derive(Debug, Args)]
pub struct DataArgs {
    /// Parquet or JSONL files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Model folder or Hub id of the tokenizer and chat template [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub prompts: PromptArgs,
}
