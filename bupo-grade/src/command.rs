//! Scores from a program of one's own.

mod process;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{GradeError, GradedItem, Item, parallel};
use process::Process;

/// How long a scorer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// Until a new process is ready; its first answer has this long and `answer`.
    pub start: Duration,
    /// For each answer.
    pub answer: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self { start: Duration::from_secs(30), answer: Duration::from_secs(10) }
    }
}

/// A program that scores: as many processes of it as the machine runs threads, kept from call to call.
///
/// It reads one JSON object per line from standard input, `{"response": ..., "answer": ..., "data_source": ...}` and
/// `"prompt"` where it is known, and writes one line to standard output for each, before it is given the next:
/// `{"score": 0.5, "extracted": "42"}` (`extracted` is optional, other keys are ignored) or just `0.5`. It must flush
/// each line, write nothing else there, and end when its input ends. Its standard error is read for failure reports.
///
/// A process that ends, writes something else (a score is a number from -1,000,000 to 1,000,000), writes unasked, or
/// takes too long is killed with all of its process group. The item it was asked about scores 0 and says why, and a
/// new process is started for the next. After some processes in a row without a single answer, a call to
/// [`score`](Self::score) gives up: the rest of its items score 0. The next call tries again.
#[derive(Debug)]
pub struct CommandScorer {
    command: String,
    limits: TimeLimits,
    processes: Mutex<Vec<Option<Process>>>,
}

/// Processes in a row without an answer before a call gives up, for each that runs at once.
const MAX_FRUITLESS: usize = 3;

impl CommandScorer {
    /// Starts the first process of `command`: a program, looked up in `PATH` where it has no slash, and its arguments,
    /// parted by white space. There is no quoting; a program that needs more is called from a script.
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
        Ok(Self { command: command.to_owned(), limits, processes: Mutex::new(processes) })
    }

    /// Scores all items, in order. Calls from several threads wait for one another.
    pub fn score(&self, items: &[Item<'_>]) -> Vec<GradedItem> {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = processes.len().min(items.len());
        let fruitless = AtomicUsize::new(0);
        parallel::map(&mut processes[..workers], items.len(), |process, index| {
            self.score_one(process, &items[index], &fruitless)
        })
    }

    fn score_one(&self, slot: &mut Option<Process>, item: &Item<'_>, fruitless: &AtomicUsize) -> GradedItem {
        let max_fruitless = MAX_FRUITLESS * parallel::threads();
        if fruitless.load(Ordering::Relaxed) >= max_fruitless {
            return self.failed(&format!("not asked, as {max_fruitless} processes in a row gave no answer"));
        }
        let mut process = match slot.take().map_or_else(|| Process::start(&self.command), Ok) {
            Ok(process) => process,
            Err(error) => {
                fruitless.fetch_add(1, Ordering::Relaxed);
                return self.failed(&format!("does not start: {error}"));
            }
        };
        match process.ask(item, self.limits) {
            Ok(graded) => {
                fruitless.store(0, Ordering::Relaxed);
                *slot = Some(process);
                GradedItem { graded, failure: None }
            }
            Err(reason) => {
                if !process.has_answered() {
                    fruitless.fetch_add(1, Ordering::Relaxed);
                }
                self.failed(&process.stop(&reason))
            }
        }
    }

    fn failed(&self, reason: &str) -> GradedItem {
        GradedItem::failed(format!("scorer `{}`: {reason}", self.command))
    }
}
