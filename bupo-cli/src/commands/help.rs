//! `bupo completions`, `bupo man`, and the text of `bupo --version`.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::backend::detect;
use crate::error::CliError;

/// The backends and options that can be compiled in.
const FEATURES: [(&str, bool); 6] = [
    ("cpu", cfg!(feature = "cpu")),
    ("wgpu", cfg!(feature = "wgpu")),
    ("cuda", cfg!(feature = "cuda")),
    ("mpi", cfg!(feature = "mpi")),
    ("autotune", cfg!(feature = "autotune")),
    ("fusion", cfg!(feature = "fusion")),
];

/// Prints the completions of a shell.
pub fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bupo", &mut script);
    out!("{}", String::from_utf8_lossy(&script));
}

/// Writes one manual page for each command.
///
/// # Errors
/// If a file cannot be written.
pub fn man(folder: &Path) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(CliError::io("create", folder))?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(CliError::io("write", folder))?;
    outln!("wrote the manual pages into {}; read them with man {}/bupo.1", folder.display(), folder.display());
    Ok(())
}

/// The command line, whose `--version` names the compiled features and the devices of this machine.
pub fn command() -> Command {
    // Devices are looked for only when they are asked for: it takes a moment.
    if std::env::args().nth(1).as_deref() == Some("--version") {
        return Cli::command().long_version(version());
    }
    Cli::command()
}

fn version() -> String {
    let features: Vec<&str> = FEATURES.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
    let devices = detect().into_iter().map(|device| match device.info {
        Ok(info) => format!("  {:<8} {}", device.choice.to_string(), info.name),
        Err(_) => format!("  {:<8} not usable (bupo devices says why)", device.choice.to_string()),
    });
    let devices: Vec<String> = devices.collect();
    format!("{}\nfeatures: {}\ndevices:\n{}", env!("CARGO_PKG_VERSION"), features.join(", "), devices.join("\n"))
}
