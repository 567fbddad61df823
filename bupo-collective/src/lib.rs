//! Collective operations between the processes of one training run.
//!
//! A launcher such as `mpirun`, `torchrun` or `srun` starts the same program many times and tells each process its rank
//! ([`Launch`]). The processes are joined by a [`Collective`]: MPI (feature `mpi`), NCCL (feature `nccl`), or nothing for a single
//! process. [`Processes`] has the operations that training uses: values gathered or broadcast, gradients summed.
//!
//! All processes make the same calls in the same order. Every result has the same bits on all of them.

mod alone;
mod collective;
mod error;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod processes;
mod tensors;
mod threads;
mod watch;

pub use alone::Alone;
pub use collective::{Collective, DeviceCollective, DeviceTensor};
pub use error::CollectiveError;
pub use launch::{Launch, Launcher};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use processes::Processes;
pub use threads::{Threads, threads};
