//! Options of `bupo analyze`.

use std::path::PathBuf;

use bupo_grade::Rule;
use clap::Args;

use super::device::{DeviceArgs, DtypeArgs};
use super::engine::EngineArgs;
use super::model::{AdapterArgs, NormArgs};
use super::prompt::PromptArgs;
use super::sampling::{RestrictionArgs, SamplingArgs};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input"))]
#[command(mut_arg("temperature", |temperature| temperature.conflicts_with("completions")))]
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
    /// Parquet or JSONL files of problems; responses are sampled and graded [default: the embedded arithmetic problems]
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', group = "input")]
    pub data: Vec<PathBuf>,
    /// Text file with one prompt per line, - for standard input; responses are sampled
    #[arg(long, value_name = "FILE", group = "input")]
    pub prompts: Option<PathBuf>,
    /// JSON lines with prompt and response; every model is measured on these responses
    #[arg(long, value_name = "FILE.jsonl", group = "input")]
    pub completions: Option<PathBuf>,
    /// Responses per prompt
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "completions")]
    pub samples: usize,
    /// Maximum number of prompts, or of given responses
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub limit: usize,
    #[command(flatten)]
    pub norm: NormArgs,
    /// Run and measure layers 1 to N only, without comparison with the full policy
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// Entropy changes up to this fraction of ln V count as no change
    #[arg(long, value_name = "FRACTION", default_value_t = bupo_analysis::DEFAULT_TOLERANCE)]
    pub tolerance: f64,
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
    /// Output folder [default: the first free of runs/analysis-1, runs/analysis-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write into a folder that is not empty and overwrite the files of an earlier analysis
    #[arg(long)]
    pub force: bool,
}
