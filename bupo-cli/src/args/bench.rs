//! Options of `bupo bench`.

use bupo_models::DtypeChoice;
use clap::{Args, ValueEnum};

use super::device::DeviceArgs;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Model shape: small, vocab, qwen3-0.6b, qwen3-4b, or a model folder, with its weights if it has any, else with random ones
    #[arg(long, value_name = "SHAPE", default_value = "small")]
    pub shape: String,
    /// Timed work
    #[arg(long, default_value = "train")]
    pub mode: BenchModeArg,
    /// Number of sequences
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch: usize,
    /// Tokens per sequence, in a rollout per prompt [default: 256, in a rollout 64]
    #[arg(long, value_name = "N")]
    pub seq: Option<usize>,
    /// Layer whose policy phase1 trains, from 1
    #[arg(long, value_name = "L", default_value_t = 2)]
    pub layer: usize,
    /// Generated tokens per response of a rollout
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub new: usize,
    /// Responses per prompt of a rollout
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub group: usize,
    /// Tokens per micro-batch of an update
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_tokens_per_batch: usize,
    /// Recompute the layers in the backward pass of an update (activation checkpointing)
    #[arg(long)]
    pub recompute: bool,
    /// Timed runs, after one warm-up run
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub runs: usize,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Print the time of each part of the work, from one more run
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Compute dtype of the layers: auto, f32 or bf16
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: DtypeChoice,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum BenchModeArg {
    /// One update of the full policy
    Train,
    /// One update of the policy of --layer
    Phase1,
    /// Sampling from the full policy
    Rollout,
    /// The entropies of all attention, feed-forward and layer policies
    Analyze,
    /// All statistics of `bupo analyze`
    Measure,
}
