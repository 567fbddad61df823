//! Options of `bupo eval`.

use std::path::PathBuf;

use bupo_grade::Rule;
use clap::Args;

use super::engine::EngineArgs;
use super::model::{ModelArgs, PolicyArgs};
use super::prompt::PromptArgs;
use super::sampling::{RestrictionArgs, SamplingArgs};
use crate::screen::TableFormat;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("answers").required(true))]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Parquet or JSONL files, each a benchmark that has the file's name
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', group = "answers")]
    pub data: Vec<PathBuf>,
    /// Regrade the completions.jsonl of an earlier evaluation, without sampling
    #[arg(long, value_name = "FILE.jsonl", group = "answers")]
    pub completions: Option<PathBuf>,
    /// Compare two evaluations of the same problems, given by their folders, without sampling
    #[arg(long, value_names = ["A", "B"], num_args = 2, group = "answers")]
    pub compare: Vec<PathBuf>,
    /// Print the table in this format, and all else on standard error [default: text for a screen]
    #[arg(long, value_name = "FORMAT")]
    pub table: Option<TableFormat>,
    /// Responses per problem; Pass@K is printed for every K up to it
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub samples: usize,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Grading rule: strict, equivalent, exact, numeric or command:PROGRAM
    #[arg(long, default_value = "strict")]
    pub rule: Rule,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub restrictions: RestrictionArgs,
    /// Maximum response length in tokens
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_new_tokens: usize,
    /// Responses sampled at once; affects memory and speed, not the responses [default: 64; with servers those of 64 problems]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Use only the first N problems of each file
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub prompts: PromptArgs,
    /// Output folder; an unfinished evaluation with the same options in it is resumed [default: the first free of runs/eval-1,
    /// runs/eval-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
