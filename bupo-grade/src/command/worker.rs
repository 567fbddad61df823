//! Assigns the answers of a scorer's processes to the items of one call.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::limits::TimeLimits;
use super::process::{Problem, Process, Reply};
use crate::item::{Graded, GradedItem, Item};

/// What the workers of one call share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) command: &'a str,
    pub(super) limits: TimeLimits,
    pub(super) next_id: &'a AtomicU64,
    pub(super) items: &'a [Item<'a>],
    /// Processes in a row that ended without an answer.
    pub(super) fruitless: &'a AtomicUsize,
    pub(super) max_fruitless: usize,
}

/// Scores items one after another with one process at a time.
pub(super) struct Worker<'a> {
    shared: Shared<'a>,
    slot: &'a mut Option<Process>,
    /// The last item, answered by the process in `slot`, which may still write a second line for it.
    unconfirmed: Option<(usize, Graded)>,
    done: Vec<(usize, GradedItem)>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: Shared<'a>, slot: &'a mut Option<Process>) -> Self {
        Self { shared, slot, unconfirmed: None, done: Vec::new() }
    }

    /// The results of all items of `indices`, each with its index.
    pub(super) fn run(mut self, indices: &mut dyn Iterator<Item = usize>) -> Vec<(usize, GradedItem)> {
        for index in indices {
            self.score(index);
        }
        self.confirm_last();
        self.done
    }

    fn score(&mut self, index: usize) {
        let max = self.shared.max_fruitless;
        if self.shared.fruitless.load(Ordering::Relaxed) >= max {
            return self.fail(index, &format!("not asked, as {max} processes in a row gave no answer"));
        }
        let mut process = match self.slot.take().map_or_else(|| self.start(), Ok) {
            Ok(process) => process,
            Err(reason) => return self.fail(index, &reason),
        };
        match process.ask(&self.shared.items[index], self.new_id(), self.shared.limits) {
            Ok(Reply::Numbered(graded)) => {
                self.answered();
                self.confirm();
                self.unconfirmed = Some((index, graded));
                *self.slot = Some(process);
            }
            Ok(Reply::Plain(graded)) => {
                self.answered();
                let result = process.finish(self.shared.limits).map(|()| graded);
                self.record(index, result.map_err(|problem| process.stop(&problem.reason)));
            }
            Err(problem) => {
                let report = self.stop(process, &problem);
                self.settle_earlier(&problem);
                if problem.ask_again { self.score_alone(index) } else { self.fail(index, &report) }
            }
        }
    }

    /// Asks for the last item once more, so that a second line for it comes to light before its score counts.
    fn confirm_last(&mut self) {
        let (Some((index, _)), Some(mut process)) = (&self.unconfirmed, self.slot.take()) else { return };
        match process.ask(&self.shared.items[*index], self.new_id(), self.shared.limits) {
            Ok(_) => {
                self.confirm();
                *self.slot = Some(process);
            }
            Err(problem) => {
                self.stop(process, &problem);
                self.settle_earlier(&problem);
            }
        }
    }

    /// Scores an item with a new process that is given nothing else.
    fn score_alone(&mut self, index: usize) {
        let mut process = match self.start() {
            Ok(process) => process,
            Err(reason) => return self.fail(index, &reason),
        };
        let result = process.ask_only(&self.shared.items[index], self.new_id(), self.shared.limits);
        if result.is_ok() {
            self.answered();
        }
        let result = result.map_err(|problem| self.stop(process, &problem));
        self.record(index, result);
    }

    /// Decides on the item before the one that a process had a problem with.
    fn settle_earlier(&mut self, problem: &Problem) {
        if problem.earlier_is_complete {
            self.confirm();
        } else if let Some((index, _)) = self.unconfirmed.take() {
            self.score_alone(index);
        }
    }

    fn confirm(&mut self) {
        if let Some((index, graded)) = self.unconfirmed.take() {
            self.record(index, Ok(graded));
        }
    }

    fn start(&self) -> Result<Process, String> {
        Process::start(self.shared.command).map_err(|error| {
            self.shared.fruitless.fetch_add(1, Ordering::Relaxed);
            format!("does not start: {error}")
        })
    }

    fn stop(&self, process: Process, problem: &Problem) -> String {
        if !process.has_answered() {
            self.shared.fruitless.fetch_add(1, Ordering::Relaxed);
        }
        process.stop(&problem.reason)
    }

    fn answered(&self) {
        self.shared.fruitless.store(0, Ordering::Relaxed);
    }

    fn new_id(&self) -> u64 {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn fail(&mut self, index: usize, reason: &str) {
        self.record(index, Err(reason.to_owned()));
    }

    fn record(&mut self, index: usize, result: Result<Graded, String>) {
        let item = match result {
            Ok(graded) => GradedItem { graded, failure: None },
            Err(reason) => GradedItem::failed(format!("scorer `{}`: {reason}", self.shared.command)),
        };
        self.done.push((index, item));
    }
}
