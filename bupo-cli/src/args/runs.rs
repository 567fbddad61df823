//! Options of `bupo runs`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Folder that contains the run folders
    #[arg(value_name = "DIR", default_value = "runs")]
    pub folder: PathBuf,
}
