//! Progress: a bar in a terminal; elsewhere a line with the time every half minute.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bupo_models::pretrained::hub::FetchProgress;
use chrono::Local;
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};

use crate::verbosity::{Verbosity, verbosity};

/// The time between lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Progress in steps, with the time left from the second step on. Printed lines are above the bar. On standard error, and nothing
/// with --quiet.
pub struct StepBar {
    bar: ProgressBar,
    pace: Arc<Mutex<Pace>>,
    /// Ends the thread that prints lines without a terminal when it is dropped.
    _end_of_lines: Option<Sender<()>>,
}

/// The steps done in this process, and since when.
struct Pace {
    started: Instant,
    done: u32,
    /// Since when something else is done, whose time does not count.
    paused: Option<Instant>,
}

impl StepBar {
    /// `what` is counted: steps, responses.
    pub fn new(what: &str, steps: usize) -> Self {
        Self::resumed(what, steps, 0)
    }

    /// Progress of which `done` steps were done before. They do not count for the time left.
    pub fn resumed(what: &str, steps: usize, done: usize) -> Self {
        let is_quiet = verbosity() == Verbosity::Quiet;
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new(steps as u64) };
        // The template is valid; an invalid one would leave the default style.
        if let Ok(style) = ProgressStyle::with_template("[{elapsed_precise}] {bar:40} {pos}/{len}  {msg}") {
            bar.set_style(style);
        }
        bar.set_position(done as u64);
        let pace = Arc::new(Mutex::new(Pace { started: Instant::now(), done: 0, paused: None }));
        let lines = !is_quiet && bar.is_hidden();
        let end = lines.then(|| print_lines(what.to_string(), bar.clone(), Arc::clone(&pace)));
        Self { bar, pace, _end_of_lines: end }
    }

    pub fn step(&self) {
        self.advance(1);
    }

    pub fn advance(&self, by: usize) {
        let mut pace = lock(&self.pace);
        pace.done += by as u32;
        if let Some(left) = pace.left(&self.bar, self.bar.position() + by as u64) {
            self.bar.set_message(left);
        }
        self.bar.inc(by as u64);
    }

    pub fn set_steps(&self, steps: usize) {
        self.bar.set_length(steps as u64);
    }

    /// Until [`Self::go_on`], time does not count.
    pub fn pause(&self) {
        lock(&self.pace).paused.get_or_insert_with(Instant::now);
    }

    pub fn go_on(&self) {
        let mut pace = lock(&self.pace);
        if let Some(paused) = pace.paused.take() {
            pace.started += paused.elapsed();
        }
    }

    /// Prints a line of progress; nothing with --quiet.
    pub fn line(&self, line: &str) {
        if verbosity() != Verbosity::Quiet {
            self.result(line);
        }
    }

    /// Prints a line in any case.
    pub fn result(&self, line: &str) {
        self.bar.suspend(|| outln!("{line}"));
    }
}

impl Drop for StepBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Pace {
    /// The time left, from the second step of this process on.
    fn left(&self, bar: &ProgressBar, position: u64) -> Option<String> {
        let todo = bar.length()?.saturating_sub(position);
        let until = self.paused.unwrap_or_else(Instant::now);
        let per_step = until.duration_since(self.started).checked_div(self.done)?;
        Some(format!("{} left", FormattedDuration(per_step.mul_f64(todo as f64))))
    }
}

/// Prints a line every half minute until the sender is dropped.
fn print_lines(what: String, bar: ProgressBar, pace: Arc<Mutex<Pace>>) -> Sender<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while receiver.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
            let left = lock(&pace).left(&bar, bar.position()).map_or(String::new(), |left| format!(", {left}"));
            let now = Local::now().format("%Y-%m-%d %H:%M:%S");
            eprintln!("{now}  {} of {} {what} done{left}", bar.position(), bar.length().unwrap_or_default());
        }
    });
    sender
}

/// Each change of a pace is complete even if another thread panicked.
fn lock(pace: &Mutex<Pace>) -> std::sync::MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The progress bar of downloads from the Hub.
#[derive(Default)]
pub struct FetchScreen(Option<ProgressBar>);

impl FetchProgress for FetchScreen {
    fn file(&mut self, name: &str, bytes: u64) {
        if verbosity() == Verbosity::Quiet {
            return;
        }
        let bar = self.0.get_or_insert_with(|| ProgressBar::new(bytes));
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}  {eta} left") {
            bar.set_style(style);
        }
        bar.set_length(bytes);
        bar.set_position(0);
        bar.set_message(name.to_string());
    }

    fn advance(&mut self, bytes: u64) {
        self.0.iter().for_each(|bar| bar.inc(bytes));
    }

    fn done(&mut self) {
        self.0.take().iter().for_each(ProgressBar::finish_and_clear);
    }
}
