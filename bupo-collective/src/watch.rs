//! Watches how long a process waits for the others: a report after a minute, an end after a limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Waiting is reported after this long, and every time it has lasted twice as long.
const FIRST_REPORT: Duration = Duration::from_secs(60);
/// How often the time is looked at.
const TICK: Duration = Duration::from_millis(500);
/// The limit until one is set.
const LIMIT: Duration = Duration::from_secs(1800);
/// Process 0, which knows for whom it waits, ends first.
const OTHERS_LATER: Duration = Duration::from_secs(5);

/// A thread that watches a process's waiting.
pub(crate) struct Watch(Arc<Mutex<State>>);

struct State {
    rank: usize,
    size: usize,
    place: String,
    limit: Duration,
    /// Since when the process is in an operation.
    since: Option<Instant>,
    /// The processes that have not arrived, if that is known.
    missing: Vec<usize>,
    next_report: Duration,
}

/// Ends the waiting when dropped.
pub(crate) struct Waiting<'a>(&'a Watch);

impl Watch {
    pub(crate) fn start(rank: usize, size: usize, report: impl Fn(&str) + Send + 'static) -> Self {
        let state = State {
            rank,
            size,
            place: "the start".into(),
            limit: LIMIT,
            since: None,
            missing: Vec::new(),
            next_report: FIRST_REPORT,
        };
        let watch = Self(Arc::new(Mutex::new(state)));
        let state = Arc::downgrade(&watch.0);
        std::thread::spawn(move || {
            while let Some(state) = state.upgrade() {
                let said = locked(&state).look();
                drop(state);
                if let Some((text, ends)) = said {
                    report(&text);
                    if ends {
                        // A signal, so that the launcher ends the other processes.
                        std::process::abort();
                    }
                }
                std::thread::sleep(TICK);
            }
        });
        watch
    }

    pub(crate) fn set_limit(&self, limit: Duration) {
        locked(&self.0).limit = limit;
    }

    pub(crate) fn set_place(&self, place: &str) {
        locked(&self.0).place = place.into();
    }

    pub(crate) fn set_missing(&self, missing: &[usize]) {
        locked(&self.0).missing = missing.to_vec();
    }

    /// Counts the time from now on as waiting.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        let mut state = locked(&self.0);
        state.since = Some(Instant::now());
        state.next_report = FIRST_REPORT;
        Waiting(self)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.0.0);
        state.since = None;
        state.missing.clear();
    }
}

impl State {
    /// What is to be said now, and whether the process ends.
    fn look(&mut self) -> Option<(String, bool)> {
        let waited = self.since?.elapsed();
        let limit = if self.rank == 0 { self.limit } else { self.limit + OTHERS_LATER };
        let ends = waited >= limit;
        if !ends && waited < self.next_report {
            return None;
        }
        self.next_report = 2 * waited;
        let whom = match &self.missing[..] {
            [] => "the others".to_string(),
            [rank] => format!("process {rank}"),
            ranks => format!("processes {}", ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
        };
        let (rank, size, place) = (self.rank, self.size, &self.place);
        let waits = format!("process {rank} of {size} has waited {} s for {whom} at {place}", waited.as_secs());
        let mend = "all processes end now; see the log of the one that is missing, and raise distributed.timeout if it was only slow";
        Some(if ends { (format!("{waits}, the limit: {mend}"), true) } else { (waits, false) })
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(rank: usize, waited: u64, missing: &[usize]) -> State {
        State {
            rank,
            size: 4,
            place: "step 3, gradients".into(),
            limit: Duration::from_secs(600),
            since: Instant::now().checked_sub(Duration::from_secs(waited)),
            missing: missing.to_vec(),
            next_report: FIRST_REPORT,
        }
    }

    #[test]
    fn waiting_is_reported_after_a_minute_and_then_ever_more_rarely() {
        assert_eq!(state(0, 59, &[2]).look(), None);
        let mut waiting = state(0, 61, &[2]);
        let (text, ends) = waiting.look().unwrap();
        assert_eq!((text.as_str(), ends), ("process 0 of 4 has waited 61 s for process 2 at step 3, gradients", false));
        assert_eq!(waiting.look(), None);
        assert_eq!(
            state(1, 61, &[]).look().unwrap().0,
            "process 1 of 4 has waited 61 s for the others at step 3, gradients"
        );
    }

    #[test]
    fn the_limit_ends_process_0_first_and_says_who_is_missing() {
        let (text, ends) = state(0, 600, &[1, 3]).look().unwrap();
        assert!(ends && text.contains("600 s for processes 1, 3 at step 3, gradients, the limit"), "{text}");
        assert!(text.contains("distributed.timeout"), "{text}");
        assert!(!state(1, 600, &[]).look().unwrap().1);
        assert!(state(1, 606, &[]).look().unwrap().1);
    }

    #[test]
    fn nothing_is_said_between_operations() {
        let mut idle = state(0, 0, &[]);
        idle.since = None;
        assert_eq!(idle.look(), None);
    }
}
