//! Time limits of external scorers.

use std::time::Duration;

/// How long an external scorer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// Until a new process is ready; its first answer has this long and `answer`.
    pub start: Duration,
    /// For each answer, and for the end of a process whose input was closed.
    pub answer: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self { start: Duration::from_secs(30), answer: Duration::from_secs(10) }
    }
}
