//! Scores from an external program.

mod limits;
mod process;
mod worker;

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, PoisonError};

pub use limits::TimeLimits;

use crate::error::GradeError;
use crate::item::{GradedItem, Item};
use crate::parallel;
use process::Process;
use worker::{Shared, Worker};

/// An external scorer: as many processes of a program as the machine runs threads.
///
/// A process reads one JSON object per line from standard input, `{"id": 1000000007, "response": ..., "answer": ...,
/// "data_source": ...}` and `"prompt"` where it is known. For each it writes exactly one line to standard output,
/// `{"id": 1000000007, "score": 0.5, "extracted": "42"}`, and flushes it; `extracted` is optional, other keys are ignored.
/// A score is a number from -1,000,000 to 1,000,000. A process ends when its input ends. Its standard error is read
/// for failure reports.
///
/// A process that returns the `id` is kept for the next items and the next calls. Its answer to an item counts once
/// the answer to a later request has arrived with nothing in between; the last item of a call is asked twice for this.
///
/// `id` may be left out (`{"score": 0.5}`, or just `0.5`). An answer without an `id` cannot be assigned to an item by
/// itself, so such a process is given one item, its input is closed, and its output is read to the end.
///
/// An item without exactly one valid answer fails: its [`GradedItem`] has a `failure`. So does an item whose process
/// ends or takes too long. No line is ever taken for the answer to another item: where a kept process writes a line
/// with another `id` or none, the items that it may belong to are asked again, each of a process of its own. A process
/// that broke the protocol is killed with its process group. After several processes in a row without any answer, a
/// call to [`score`](Self::score) gives up, and the rest of its items fail. The next call tries again.
#[derive(Debug)]
pub struct CommandScorer {
    command: String,
    limits: TimeLimits,
    processes: Mutex<Vec<Option<Process>>>,
    next_id: AtomicU64,
}

impl CommandScorer {
    /// Starts the first process of `command`: a program, looked up in `PATH` where it has no slash, and its arguments,
    /// separated by white space. There is no quoting; a program that needs more is called from a script.
    ///
    /// # Errors
    /// If the program does not exist or may not be executed.
    pub fn new(command: &str, limits: TimeLimits) -> Result<Self, GradeError> {
        let first =
            Process::start(command).map_err(|source| GradeError::Command { command: command.into(), source })?;
        let mut processes: Vec<_> = (0..parallel::threads()).map(|_| None).collect();
        if let Some(slot) = processes.first_mut() {
            *slot = Some(first);
        }
        Ok(Self {
            command: command.to_owned(),
            limits,
            processes: Mutex::new(processes),
            next_id: AtomicU64::new(FIRST_ID),
        })
    }

    /// Scores all items, in order. Calls from several threads wait for one another.
    pub fn score(&self, items: &[Item<'_>]) -> Vec<GradedItem> {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = processes.len().min(items.len());
        let fruitless = AtomicUsize::new(0);
        let shared = Shared {
            command: &self.command,
            limits: self.limits,
            next_id: &self.next_id,
            items,
            fruitless: &fruitless,
            max_fruitless: MAX_FRUITLESS * parallel::threads(),
        };
        parallel::share(&mut processes[..workers], items.len(), |slot, indices| Worker::new(shared, slot).run(indices))
    }
}

/// Processes in a row without an answer before a call gives up, for each that runs at once.
const MAX_FRUITLESS: usize = 3;

/// All ids have ten digits, so that the length of a line depends only on its item.
const FIRST_ID: u64 = 1_000_000_000;
