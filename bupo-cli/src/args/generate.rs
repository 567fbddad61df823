//! Options of `bupo generate`.

use std::path::PathBuf;

use bupo_core::PolicySite;
use clap::Args;

use super::chat::ChatArgs;
use super::model::{ModelArgs, PolicyArgs};
use super::sampling::{RestrictionArgs, SamplingArgs};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Token ids of the prompts, [[id, ...], ...]; rows can differ in length
    #[arg(long, value_name = "IDS.json", group = "input")]
    pub tokens: Option<PathBuf>,
    /// Prompt as text
    #[arg(long, value_name = "TEXT", group = "input")]
    pub prompt: Option<String>,
    /// Text file with one prompt per line; - is standard input
    #[arg(long, value_name = "FILE", group = "input")]
    pub prompts: Option<PathBuf>,
    #[command(flatten)]
    pub chat: ChatArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Sample from several policies and print the responses in columns: full,layer:6,ffn:20
    #[arg(long, value_name = "SITE,...", value_delimiter = ',', requires = "prompt", conflicts_with = "policy")]
    pub compare: Vec<PolicySite>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub restrictions: RestrictionArgs,
    /// Maximum response length in tokens
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_new_tokens: usize,
    /// Responses generated at once; affects memory and speed, not the responses
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    /// Continue past end-of-sequence tokens
    #[arg(long)]
    pub ignore_eos: bool,
    /// Write {"tokens": [[id, ...], ...], "log_probs": [[...], ...]} of the generated tokens to this file; with --compare, one
    /// such object per policy
    #[arg(long, value_name = "OUT.json", conflicts_with = "out")]
    pub json: Option<PathBuf>,
    /// Write a line with prompt, response, prompt_tokens, response_tokens, log_probs and finished to this file as soon as a
    /// response is complete; the file is one that analyze --completions reads
    #[arg(long, value_name = "OUT.jsonl", conflicts_with = "compare")]
    pub out: Option<PathBuf>,
    /// Overwrite the file of --out
    #[arg(long, requires = "out")]
    pub force: bool,
}
