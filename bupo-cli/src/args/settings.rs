//! Options that read and change training settings.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// Settings file in TOML; settings that it leaves out have their default values
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Change a setting, for example rollout.prompts=64 or phases.0.steps=5; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
