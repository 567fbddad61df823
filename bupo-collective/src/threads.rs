//! Processes played by threads of this one, for tests.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use crate::{Collective, CollectiveError};

/// One of the threads that play processes.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    /// What each has put in.
    slots: Vec<Mutex<Vec<u32>>>,
}

/// `size` processes played by threads: give one to each thread.
pub fn threads(size: usize) -> Vec<Threads> {
    let slots = (0..size).map(|_| Mutex::default()).collect();
    let shared = Arc::new(Shared { barrier: Barrier::new(size), slots });
    (0..size).map(|rank| Threads { rank, shared: Arc::clone(&shared) }).collect()
}

impl Threads {
    /// Puts words in, and reads those of all.
    fn exchange(&self, words: &[u32], mut read: impl FnMut(usize, &[u32])) {
        let slot = |rank: usize| self.shared.slots[rank].lock().unwrap_or_else(PoisonError::into_inner);
        *slot(self.rank) = words.to_vec();
        self.shared.barrier.wait();
        (0..self.size()).for_each(|rank| read(rank, &slot(rank)));
        self.shared.barrier.wait();
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.slots.len()
    }

    fn reduce_scatter(&self, values: &[f32], part: &mut [f32]) -> Result<(), CollectiveError> {
        part.fill(0.0);
        let own = self.rank * part.len()..(self.rank + 1) * part.len();
        self.exchange(bytemuck::cast_slice(values), |_, words| {
            let values: &[f32] = bytemuck::cast_slice(words);
            part.iter_mut().zip(&values[own.clone()]).for_each(|(sum, value)| *sum += value);
        });
        Ok(())
    }

    fn all_gather(&self, part: &[u32], all: &mut [u32]) -> Result<(), CollectiveError> {
        self.exchange(part, |rank, words| all[rank * words.len()..(rank + 1) * words.len()].copy_from_slice(words));
        Ok(())
    }

    fn broadcast(&self, words: &mut [u32]) -> Result<(), CollectiveError> {
        let own = words.to_vec();
        self.exchange(&own, |rank, sent| {
            if rank == 0 {
                words.copy_from_slice(sent);
            }
        });
        Ok(())
    }

    fn abort(&self) -> ! {
        std::process::abort()
    }
}
