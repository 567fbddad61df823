//! The processes of a run, as training uses them.

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::watch::Watch;
use crate::{Alone, Collective, CollectiveError};

/// The processes of a run. In a single process every operation returns what it was given.
pub struct Processes {
    pub(crate) collective: Box<dyn Collective>,
    /// Reports waiting and ends it; `None` in a single process.
    watch: Option<Watch>,
}

impl Processes {
    /// A single process.
    pub fn alone() -> Self {
        Self { collective: Box::new(Alone), watch: None }
    }

    /// Processes that a collective connects. `report` gets a sentence when an operation waits long for other processes, and before
    /// this process is ended because it waited too long.
    pub fn new(collective: Box<dyn Collective>, report: impl Fn(&str) + Send + 'static) -> Self {
        let watch = (collective.size() > 1).then(|| Watch::start(collective.rank(), collective.size(), report));
        Self { collective, watch }
    }

    /// This process, from 0.
    pub fn rank(&self) -> usize {
        self.collective.rank()
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.collective.size()
    }

    /// Whether this is the process that writes files and speaks to the user.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there is only this process.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// The longest time that an operation waits for other processes.
    pub fn set_limit(&self, limit: Duration) {
        self.watch.iter().for_each(|watch| watch.set_limit(limit));
    }

    /// Says what the next operations are for, in reports about waiting.
    pub fn place(&self, place: &str) {
        self.watch.iter().for_each(|watch| watch.set_place(place));
    }

    /// The share of this process of `count` things in order: contiguous, of nearly equal length.
    pub fn slice(&self, count: usize) -> Range<usize> {
        let bound = |rank: usize| count * rank / self.size();
        bound(self.rank())..bound(self.rank() + 1)
    }

    /// The indices of this process's share of things with these costs: the largest first, each to the process that has least.
    pub fn balanced(&self, costs: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..costs.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(costs[*index]));
        let mut loads = vec![0; self.size()];
        let mut own = Vec::new();
        for index in order {
            let least = (0..loads.len()).min_by_key(|rank| loads[*rank]).unwrap_or(0);
            loads[least] += costs[index];
            if least == self.rank() {
                own.push(index);
            }
        }
        own.sort_unstable();
        own
    }

    /// The values of all processes, in the order of ranks.
    ///
    /// # Errors
    /// If the library fails, or a value cannot be sent.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<Vec<T>, CollectiveError> {
        if self.is_alone() {
            return Ok(vec![value]);
        }
        let bytes = encoded(&value)?;
        let mut lengths = vec![0; 2 * self.size()];
        self.all_gather_words(&split(bytes.len()), &mut lengths)?;
        let lengths: Vec<usize> = lengths.chunks(2).map(joined).collect();
        let longest = lengths.iter().max().copied().unwrap_or(0).div_ceil(4);
        let mut all = vec![0; longest * self.size()];
        self.all_gather_words(&words(&bytes, longest), &mut all)?;
        all.chunks(longest.max(1)).zip(lengths).map(|(words, length)| decoded(words, length)).collect()
    }

    /// The value of process 0. `make` is called there only.
    ///
    /// # Errors
    /// If the library fails, or the value cannot be sent.
    pub fn from_first<T: Serialize + DeserializeOwned>(&self, make: impl FnOnce() -> T) -> Result<T, CollectiveError> {
        if self.is_alone() {
            return Ok(make());
        }
        let bytes = if self.is_first() { encoded(&make())? } else { Vec::new() };
        let mut length = split(bytes.len());
        self.broadcast_words(&mut length)?;
        let length = joined(&length);
        let mut words = words(&bytes, length.div_ceil(4));
        self.broadcast_words(&mut words)?;
        decoded(&words, length)
    }

    /// The numbers of process 0, of which all know the count. `make` is called there only.
    ///
    /// # Errors
    /// If the library fails.
    pub fn numbers_from_first<E: From<CollectiveError>>(
        &self,
        count: usize,
        make: impl FnOnce() -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        let mut numbers = if self.is_first() { make()? } else { vec![0.0; count] };
        self.broadcast_words(bytemuck::cast_slice_mut(&mut numbers))?;
        Ok(numbers)
    }

    /// Ends all processes when the value that it returns is dropped by a panic, so that the others do not wait for this one. `report`
    /// gets a sentence before.
    pub fn abort_on_panic<'a>(&'a self, report: impl Fn(&str) + 'a) -> impl Drop + 'a {
        AbortOnPanic { processes: self, report }
    }

    /// Ends all processes at once.
    pub fn abort(&self) -> ! {
        self.collective.abort()
    }

    pub(crate) fn all_gather_words(&self, part: &[u32], all: &mut [u32]) -> Result<(), CollectiveError> {
        self.watched(|collective| collective.all_gather(part, all))
    }

    fn broadcast_words(&self, words: &mut [u32]) -> Result<(), CollectiveError> {
        self.watched(|collective| collective.broadcast(words))
    }

    /// Runs an operation while the time that it takes is watched.
    pub(crate) fn watched<T>(
        &self,
        operation: impl FnOnce(&dyn Collective) -> Result<T, CollectiveError>,
    ) -> Result<T, CollectiveError> {
        let collective = self.collective.as_ref();
        let Some(watch) = &self.watch else { return operation(collective) };
        let _waiting = watch.waiting();
        collective.arrive(&|missing| watch.set_missing(missing))?;
        operation(collective)
    }
}

struct AbortOnPanic<'a, R: Fn(&str)> {
    processes: &'a Processes,
    report: R,
}

impl<R: Fn(&str)> Drop for AbortOnPanic<'_, R> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.processes.is_alone() {
            let (rank, size) = (self.processes.rank(), self.processes.size());
            (self.report)(&format!("process {rank} of {size} panicked; all processes end"));
            self.processes.abort();
        }
    }
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, CollectiveError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|error| CollectiveError::Message(error.to_string()))?;
    Ok(bytes)
}

fn decoded<T: DeserializeOwned>(words: &[u32], length: usize) -> Result<T, CollectiveError> {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    ciborium::from_reader(&bytes[..length.min(bytes.len())])
        .map_err(|error| CollectiveError::Message(error.to_string()))
}

/// Bytes as `count` words, filled up with zeros.
fn words(bytes: &[u8], count: usize) -> Vec<u32> {
    let mut words = vec![0; count];
    let room: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    let length = bytes.len().min(room.len());
    room[..length].copy_from_slice(&bytes[..length]);
    words
}

/// A length as two words.
fn split(length: usize) -> [u32; 2] {
    [length as u32, (length as u64 >> 32) as u32]
}

fn joined(words: &[u32]) -> usize {
    words.iter().rev().fold(0_u64, |length, word| length << 32 | u64::from(*word)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads;

    /// What each of `size` processes returns.
    fn on_each<T: Send>(size: usize, work: impl Fn(&Processes) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> = threads(size)
                .into_iter()
                .map(|one| scope.spawn(move || work(&Processes::new(Box::new(one), |_| {}))))
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn values_of_any_length_are_gathered_with_their_bits() {
        for size in [1, 2, 3, 5] {
            let all = on_each(size, |processes| {
                let rank = processes.rank();
                let value = (vec![f64::NAN.to_bits() + rank as u64; rank], "é".repeat(rank), vec![0.1_f32; 3 * rank]);
                processes.gather(value).unwrap()
            });
            let expected: Vec<_> = (0..size)
                .map(|rank| (vec![f64::NAN.to_bits() + rank as u64; rank], "é".repeat(rank), vec![0.1_f32; 3 * rank]))
                .collect();
            assert!(all.iter().all(|gathered| *gathered == expected), "{size}");
        }
    }

    #[test]
    fn only_the_first_process_makes_what_all_get() {
        for size in [1, 2, 4] {
            let all = on_each(size, |processes| {
                let text: Option<String> = processes
                    .from_first(|| {
                        assert!(processes.is_first());
                        Some("of process 0".to_string())
                    })
                    .unwrap();
                let numbers = processes
                    .numbers_from_first(3, || -> Result<_, CollectiveError> {
                        assert!(processes.is_first());
                        Ok(vec![1.5, f32::NEG_INFINITY, -0.0])
                    })
                    .unwrap();
                (text, numbers)
            });
            for (text, numbers) in all {
                assert_eq!(text.as_deref(), Some("of process 0"));
                assert_eq!(
                    numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                    [1.5_f32.to_bits(), f32::NEG_INFINITY.to_bits(), (-0.0_f32).to_bits()]
                );
            }
        }
    }

    #[test]
    fn shares_cover_everything_once() {
        for (size, count) in [(1, 7), (3, 7), (4, 2), (5, 0), (2, 9)] {
            let shares = on_each(size, |processes| processes.slice(count));
            let all: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>(), "{size} {count}");
            let longest = shares.iter().map(|share| share.len()).max().unwrap();
            assert!(shares.iter().all(|share| longest - share.len() <= 1), "{shares:?}");
        }
    }

    #[test]
    fn shares_have_nearly_the_same_cost() {
        let costs = [90, 10, 30, 20, 50, 80, 40, 70, 60, 5];
        for size in [1, 2, 3] {
            let shares = on_each(size, |processes| processes.balanced(&costs));
            let mut all: Vec<usize> = shares.concat();
            all.sort_unstable();
            assert_eq!(all, (0..costs.len()).collect::<Vec<_>>());
            let loads: Vec<usize> = shares.iter().map(|share| share.iter().map(|index| costs[*index]).sum()).collect();
            let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
            assert!(most - least <= 20, "{loads:?}");
        }
    }
}
