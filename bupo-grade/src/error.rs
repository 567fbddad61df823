//! Errors of rewards and scorers.

/// Errors of the grading crate. Each message says what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum GradeError {
    /// The name of a rule is unknown.
    #[error("`{0}` is not a rule; use strict, equivalent, exact, numeric or command:PROGRAM")]
    UnknownRule(String),
    /// The weights of a reward cannot be used.
    #[error(
        "the reward of {source_name} has the weights {}; give some from 0 to 1,000,000, not all of them 0",
        list(weights)
    )]
    Weights {
        /// Which reward: `rule`, or a key of `by_source`.
        source_name: String,
        /// As written.
        weights: Vec<f64>,
    },
    /// A key of `by_source` has a `*` elsewhere than at its end.
    #[error(
        "the reward source `{0}` has a `*` that is not its last character; write a name, or the start of one and `*`"
    )]
    Pattern(String),
    /// The program of an external scorer does not start.
    #[error("cannot start the scorer `{command}`: {source}; its first word must be an executable program")]
    Command {
        /// The program and its arguments.
        command: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

fn list(weights: &[f64]) -> String {
    weights.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}
