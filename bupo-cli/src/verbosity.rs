//! How much is printed: the global options --quiet and --verbose.

use std::sync::OnceLock;

/// How much a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and results only.
    Quiet,
    /// Also progress.
    Normal,
    /// Also every warning of a training step, and the seconds of its parts.
    Verbose,
}

static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();

/// Sets what [`verbosity`] returns, once.
pub fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.get_or_init(|| verbosity);
}

/// What the command line asks for.
pub fn verbosity() -> Verbosity {
    VERBOSITY.get().copied().unwrap_or(Verbosity::Normal)
}
