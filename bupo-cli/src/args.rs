//! The command line's words.

use std::path::PathBuf;

use bupo_core::{Norm, PolicySite};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::backend::DeviceChoice;

/// Looks inside a language model's policy and trains it from the bottom up.
#[derive(Debug, Parser)]
#[command(name = "bupo", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model with Bottom-up Policy Optimization, or plain GRPO
    Train(TrainArgs),
    /// Write every state of the residual stream, and every policy's entropy, on given tokens
    Trace(TraceArgs),
    /// Sample from the full policy or an internal one
    Generate(GenerateArgs),
    /// Learn from recorded rollouts, without generation
    Replay(ReplayArgs),
    /// Train a tiny model from scratch on worked solutions
    Warmup(WarmupArgs),
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model folder with config.json and safetensors weights [default: the model inside the program]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: auto, cpu, ndarray, wgpu[:N] or cuda[:N]; auto is the best that works here
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
}

#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The policy: full, layer:N, attn:N or ffn:N, layers from 1
    #[arg(long, value_name = "SITE", default_value = "full")]
    pub policy: PolicySite,
    /// The norm between an internal state and the unembedding: none or final
    #[arg(long, value_name = "NORM", default_value = "none")]
    pub norm: Norm,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Settings file in TOML; what it leaves out keeps its default
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Change a setting: rollout.prompts=64, phases.0.steps=5; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// bupo, or grpo on the same number of steps [default: the settings' own, bupo]
    #[arg(long)]
    pub algorithm: Option<AlgorithmArg>,
    /// Seeds everything random [default: the settings' own, 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Model folder [default: the settings' own, the model inside the program]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Run folder; it must not exist or be empty [default: the first free of runs/bupo-1, runs/bupo-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AlgorithmArg {
    Bupo,
    Grpo,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Token ids, [[id, ...], ...], rows of equal length
    #[arg(long, value_name = "IDS.json")]
    pub tokens: PathBuf,
    /// File to write
    #[arg(long, value_name = "OUT.safetensors")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Token ids, [[id, ...], ...]; rows may have different lengths
    #[arg(long, value_name = "IDS.json", group = "input")]
    pub tokens: Option<PathBuf>,
    /// Text to continue
    #[arg(long, value_name = "TEXT", group = "input")]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Divides the logits; 0 takes the most probable token
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// The longest response, in tokens
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_new_tokens: usize,
    /// Seeds the random numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Go on past end-of-sequence tokens
    #[arg(long)]
    pub ignore_eos: bool,
    /// Write {"tokens": [[id, ...], ...], "log_probs": [[...], ...]} here, generated tokens only
    #[arg(long, value_name = "OUT.json")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Recorded rollouts: lines of {"group": 0, "prompt": [ids], "response": [ids], "reward": 1.0}
    #[arg(long, value_name = "FILE.jsonl")]
    pub rollouts: PathBuf,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How many updates, each on the whole file
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub updates: usize,
    /// AdamW's step size
    #[arg(long, value_name = "X", default_value_t = 1e-6, allow_negative_numbers = true)]
    pub lr: f64,
    /// Folder to write the updated model and updates.jsonl to; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Sequences run at once; it changes memory and speed, not the update
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub micro_batch: usize,
}

#[derive(Debug, Args)]
pub struct WarmupArgs {
    /// Folder to write the model to; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many updates
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub steps: usize,
    /// Problems per update
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub batch: usize,
    /// The highest step size
    #[arg(long, value_name = "X", default_value_t = 2e-3)]
    pub lr: f64,
    /// Width of the residual stream, a multiple of 64
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub hidden: usize,
    /// Number of layers
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub layers: usize,
    /// The most numbers in a problem
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub max_terms: usize,
    /// The largest number in a problem
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub max_number: u32,
    /// The chance that a step of a worked solution goes wrong
    #[arg(long, value_name = "P", default_value_t = 0.25)]
    pub slips: f64,
    /// Seeds weights and problems
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub device: DeviceArgs,
}
