//! Options that select a model and one of its policies.

use std::path::PathBuf;

use bupo_core::{Norm, PolicySite};
use clap::Args;

use super::device::{DeviceArgs, DtypeArgs};

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model folder, or a Hub id such as Qwen/Qwen3-0.6B or org/name@revision [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub dtype: DtypeArgs,
}

#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// Adapter of the model: a folder in PEFT's layout, such as adapter/ of a run with [lora]
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Policy: full, layer:N, attn:N or ffn:N; layers are counted from 1
    #[arg(long, value_name = "SITE", default_value = "full")]
    pub policy: PolicySite,
    #[command(flatten)]
    pub norm: NormArgs,
}

#[derive(Debug, Args)]
pub struct NormArgs {
    /// Norm between an internal state and the unembedding: none, final (the model's final norm: the logit lens), or tuned (the tuned
    /// lens, then the final norm)
    #[arg(long, value_name = "NORM", default_value = "none")]
    pub norm: Norm,
    /// Tuned lens of --norm tuned, as bupo tune-lens writes it [default: tuned_lens/params.safetensors in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub tuned_lens: Option<PathBuf>,
}
