//! The pool of threads that the CPU backend computes on.

use rayon::ThreadPoolBuilder;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::distributed::launch;

/// Makes this thread one of the pool. Otherwise it sleeps while others compute, and waking threads for each of the thousands of
/// short loops of a decoding step takes as long as the loops.
///
/// A thread outside the pool that computes needs another one to be free, so a pool of one thread stays apart.
pub fn join_pool() {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|count| *count > 0);
    let count = asked.unwrap_or_else(|| share_of_cores(launch().local_size));
    if count > 1 {
        // An error means that there is a pool already, which computes the same.
        ThreadPoolBuilder::new().num_threads(count).use_current_thread().build_global().ok();
    }
}

/// The cores of one of `processes` on this machine: those that it may run on, but not more than its share of all.
fn share_of_cores(processes: usize) -> usize {
    let own = std::thread::available_parallelism().map_or(1, usize::from);
    if processes == 1 {
        return own;
    }
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    let all = system.cpus().len().max(own);
    own.min((all / processes).max(1))
}
