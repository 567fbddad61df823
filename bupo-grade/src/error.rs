//! What can be wrong with rewards and scorers.

/// Errors of the grading crate. Each says what is wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum GradeError {
    /// A rule's name is not one of ours.
    #[error("`{0}` is no rule; write strict, equivalent, exact, numeric or command:PROGRAM")]
    UnknownRule(String),
    /// The weights of a reward cannot be used.
    #[error("the reward of {source_name} has weights {weights:?}; give some from 0 to 1,000,000, not all of them 0")]
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
    /// A scorer's program does not start.
    #[error("cannot start the scorer `{command}`: {source}; is its first word a program that may be executed?")]
    Command {
        /// The program and its arguments.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
}
