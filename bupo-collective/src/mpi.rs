//! MPI, between any devices through the host.

use std::time::Duration;

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::point_to_point::{Destination, Source};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{CommunicatorCollectives, Root};

use crate::{Collective, CollectiveError, Launch};

/// The tag of the message by which a process tells process 0 that it has arrived.
const ARRIVED: mpi::Tag = 1;
/// The longest pause between two looks for such messages.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// The processes of `mpirun` or `srun`, joined by MPI. MPI ends when it is dropped, in all processes.
pub struct Mpi {
    world: SimpleCommunicator,
    // Dropped last: it ends MPI.
    _universe: Universe,
}

impl Mpi {
    /// Joins the processes that the launcher started.
    ///
    /// # Errors
    /// If MPI does not start, or knows another number of processes than the launcher.
    pub fn join(launch: &Launch) -> Result<Self, CollectiveError> {
        let failed = |reason: String| CollectiveError::Join { rank: launch.rank, size: launch.size, reason };
        // Only the main thread calls MPI, while others compute.
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| failed("MPI was started before".into()))?;
        let world = universe.world();
        let size = world.size() as usize;
        if size != launch.size {
            return Err(failed(format!(
                "{} says {} processes, MPI {size}; start them with the mpirun of the MPI that this program was built with",
                launch.launcher, launch.size
            )));
        }
        Ok(Self { world, _universe: universe })
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn reduce_scatter(&self, values: &[f32], part: &mut [f32]) -> Result<(), CollectiveError> {
        self.world.reduce_scatter_block_into(values, part, SystemOperation::sum());
        Ok(())
    }

    fn all_gather(&self, part: &[u32], all: &mut [u32]) -> Result<(), CollectiveError> {
        self.world.all_gather_into(part, all);
        Ok(())
    }

    fn broadcast(&self, words: &mut [u32]) -> Result<(), CollectiveError> {
        self.world.process_at_rank(0).broadcast_into(words);
        Ok(())
    }

    /// The others send process 0 a word. It looks for these instead of entering the operation, so that it knows who is missing.
    fn arrive(&self, waits_for: &dyn Fn(&[usize])) -> Result<(), CollectiveError> {
        if self.rank() > 0 {
            self.world.process_at_rank(0).send_with_tag(&1_u8, ARRIVED);
            return Ok(());
        }
        let mut missing: Vec<usize> = (1..self.size()).collect();
        let mut pause = Duration::from_micros(10);
        while !missing.is_empty() {
            let before = missing.len();
            missing.retain(|rank| {
                let process = self.world.process_at_rank(*rank as mpi::Rank);
                let has_arrived = process.immediate_probe_with_tag(ARRIVED).is_some();
                if has_arrived {
                    process.receive_with_tag::<u8>(ARRIVED);
                }
                !has_arrived
            });
            if missing.len() == before {
                waits_for(&missing);
                std::thread::sleep(pause);
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
        Ok(())
    }

    fn abort(&self) -> ! {
        // A launcher that ends all processes at once may lose what this one has just printed: the reason.
        std::thread::sleep(Duration::from_millis(200));
        self.world.abort(1)
    }
}
