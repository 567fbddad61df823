//! Work shared among threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The threads this machine runs at once.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// `work(worker, i)` for each `i` below `count`, in order; each worker has a thread and takes the next `i` when free.
pub(crate) fn map<W, T, F>(workers: &mut [W], count: usize, work: F) -> Vec<T>
where
    W: Send,
    T: Send,
    F: Fn(&mut W, usize) -> T + Sync,
{
    share(workers, count, |worker, indices| indices.map(|index| (index, work(worker, index))).collect())
}

/// The results for all `i` below `count`, in order. Each worker has a thread, and `work` draws indices from the
/// iterator, which the workers share, and returns one result for each that it drew.
pub(crate) fn share<W, T, F>(workers: &mut [W], count: usize, work: F) -> Vec<T>
where
    W: Send,
    T: Send,
    F: Fn(&mut W, &mut dyn Iterator<Item = usize>) -> Vec<(usize, T)> + Sync,
{
    let next = AtomicUsize::new(0);
    let run = |worker: &mut W| {
        let mut indices =
            std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < count));
        work(worker, &mut indices)
    };
    let Some((own, others)) = workers.split_first_mut() else { return Vec::new() };
    let mut done = thread::scope(|scope| {
        // Where the system has no thread left, those there are do the work.
        let run = &run;
        let handles: Vec<_> = others
            .iter_mut()
            .filter_map(|worker| thread::Builder::new().spawn_scoped(scope, move || run(worker)).ok())
            .collect();
        let mut done = run(own);
        for handle in handles {
            match handle.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_every_worker_is_used() {
        let mut workers = [0usize; 4];
        let barrier = std::sync::Barrier::new(4);
        let results = map(&mut workers, 1000, |worker, index| {
            if *worker == 0 {
                barrier.wait();
            }
            *worker += 1;
            index * 3
        });
        assert_eq!(results, (0..1000).map(|index| index * 3).collect::<Vec<_>>());
        assert_eq!(workers.iter().sum::<usize>(), 1000);
        assert!(workers.iter().all(|count| *count > 0));
    }

    #[test]
    fn no_items_are_no_results() {
        assert!(map(&mut [()], 0, |(), index| index).is_empty());
    }
}
