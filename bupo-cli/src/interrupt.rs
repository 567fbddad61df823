//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::CliError;

/// The exit status of a program that SIGINT ended, as shells report it.
const INTERRUPTED: i32 = 130;

/// A flag that the first Ctrl-C or SIGTERM sets. The second one ends the process. `message` says what is finished before the
/// command stops.
///
/// # Errors
/// If no handler can be installed.
pub fn stop_on_interrupt(message: &'static str) -> Result<Arc<AtomicBool>, CliError> {
    install(Some(message))
}

/// The same without a message, for one of several processes.
///
/// # Errors
/// If no handler can be installed.
pub fn stop_silently_on_interrupt() -> Result<Arc<AtomicBool>, CliError> {
    install(None)
}

fn install(message: Option<&'static str>) -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler_stop = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if handler_stop.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        if let Some(message) = message {
            eprintln!("stopping: {message}; Ctrl-C again stops at once");
        }
    })
    .map_err(|error| CliError::Message(format!("cannot handle Ctrl-C: {error}")))?;
    Ok(stop)
}
