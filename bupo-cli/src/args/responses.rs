//! Options that select responses: given ones, or sampled for prompts.

use std::path::PathBuf;

use bupo_grade::Rule;
use clap::Args;

use super::engine::EngineArgs;
use super::prompt::PromptArgs;
use super::sampling::{RestrictionArgs, SamplingArgs};
use crate::error::{CliError, at_least_one};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input"))]
#[command(mut_arg("temperature", |temperature| temperature.conflicts_with("completions")))]
pub struct ResponseArgs {
    /// Parquet or JSONL files of problems; responses are sampled and graded [default: the embedded arithmetic problems]
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', group = "input")]
    pub data: Vec<PathBuf>,
    /// Text file with one prompt per line, - for standard input; responses are sampled
    #[arg(long, value_name = "FILE", group = "input")]
    pub prompts: Option<PathBuf>,
    /// JSON lines with prompt and response, which are taken as they are
    #[arg(long, value_name = "FILE.jsonl", group = "input")]
    pub completions: Option<PathBuf>,
    /// Responses per prompt
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "completions")]
    pub samples: usize,
    /// Maximum number of prompts, or of given responses
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub limit: usize,
    /// Grading rule for --data: strict, equivalent, exact, numeric or command:PROGRAM
    #[arg(long, default_value = "strict", requires = "data")]
    pub rule: Rule,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub restrictions: RestrictionArgs,
    /// Maximum response length in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_new_tokens: usize,
    /// Responses sampled at once; affects memory and speed, not the responses [default: 64; with servers those of 64 prompts]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub chat: PromptArgs,
}

impl ResponseArgs {
    pub fn check(&self) -> Result<(), CliError> {
        at_least_one(&[
            ("--samples", Some(self.samples)),
            ("--max-new-tokens", Some(self.max_new_tokens)),
            ("--batch", self.batch),
            ("--limit", Some(self.limit)),
        ])?;
        self.sampling.check()?;
        if self.engine.has_servers() && self.completions.is_some() {
            let text = "--engine samples responses, and --completions are given ones; remove one of the two";
            return Err(CliError::Message(text.into()));
        }
        self.engine.check()
    }
}
