//! Options of `bupo replay`.

use std::path::PathBuf;

use bupo_models::SaveDtype;
use clap::Args;

use super::model::{ModelArgs, PolicyArgs};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Recorded rollouts: lines of {"group": 0, "prompt": [ids], "response": [ids], "reward": 1.0}
    #[arg(long, value_name = "FILE.jsonl")]
    pub rollouts: PathBuf,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Change a setting of the loss: loss=NAME, objective.KEY=VALUE, or rollout.max_new_tokens=N, which
    /// seq-mean-token-sum-norm divides by; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Temperature of the log-probs: the one that the rollouts were sampled with
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Number of updates, each on the whole file
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub updates: usize,
    /// Learning rate of AdamW
    #[arg(long, value_name = "X", default_value_t = 1e-6, allow_negative_numbers = true)]
    pub lr: f64,
    /// Output folder for the updated model and updates.jsonl; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Tokens per micro-batch; affects memory and speed, not the update
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_tokens_per_batch: usize,
    /// Dtype of the saved model: f32, bf16 or f16; only f32 keeps the exact parameters
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    pub save_dtype: SaveDtype,
}
