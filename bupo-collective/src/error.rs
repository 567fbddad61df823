//! Errors of collective operations.

/// Errors of this crate. Each says what is wrong, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// A launcher's variable has no usable value.
    #[error(
        "the environment variable {name} is `{value}`, which is not {expected}; start the processes with mpirun, torchrun or srun"
    )]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The processes could not be joined.
    #[error("process {rank} of {size} cannot join the others: {reason}")]
    Join {
        /// This process.
        rank: usize,
        /// The number of processes.
        size: usize,
        /// Why, and how to fix it.
        reason: String,
    },
    /// A message of another process cannot be read.
    #[error("a message between processes cannot be read ({0}); start the same version of the program in all of them")]
    Message(String),
    /// The library that connects the processes failed.
    #[error("{library} failed: {reason}; see the messages of the other processes")]
    Library {
        /// `MPI` or `NCCL`.
        library: &'static str,
        /// What it reports.
        reason: String,
    },
}
