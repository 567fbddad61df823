//! Progress: a bar in a terminal; elsewhere a line with the time every half minute.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bupo_models::pretrained::hub::FetchProgress;
use chrono::Local;
use indicatif::{FormattedDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::verbosity::{Verbosity, verbosity};

/// The time between lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Progress in steps, with the time left from the second step on. Printed lines are above the bar. On standard error, and nothing
/// with --quiet.
pub struct StepBar {
    /// Its positions are parts of steps.
    bar: ProgressBar,
    /// The parts of a step.
    parts: u64,
    pace: Arc<Mutex<Pace>>,
    /// Ends the thread that prints lines without a terminal when it is dropped.
    _end_of_lines: Option<Sender<()>>,
}

/// The parts of steps done in this process, and since when.
struct Pace {
    started: Instant,
    done: u32,
    /// What is done while time does not count.
    note: Option<String>,
    /// Since when something else is done, whose time does not count.
    paused: Option<Instant>,
}

impl StepBar {
    /// `what` is counted: steps, responses.
    pub fn new(what: &str, steps: usize) -> Self {
        Self::start(what, steps, 0, 1)
    }

    /// Progress of which `done` steps were done before. They do not count for the time left.
    pub fn resumed(what: &str, steps: usize, done: usize) -> Self {
        Self::start(what, steps, done, 1)
    }

    /// Progress in steps that are done in parts of about the same time.
    pub fn in_parts(what: &str, steps: usize, parts: usize) -> Self {
        Self::start(what, steps, 0, parts)
    }

    fn start(what: &str, steps: usize, done: usize, parts: usize) -> Self {
        let is_quiet = verbosity() == Verbosity::Quiet;
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new((steps * parts) as u64) };
        let parts = parts as u64;
        // The template is valid; an invalid one would leave the default style.
        if let Ok(style) = ProgressStyle::with_template("[{elapsed_precise}] {bar:40} {steps}  {msg}") {
            let steps = move |state: &ProgressState, text: &mut dyn fmt::Write| {
                // A text that cannot be written is not shown.
                let _ = write!(text, "{}/{}", state.pos() / parts, state.len().unwrap_or_default() / parts);
            };
            bar.set_style(style.with_key("steps", steps));
        }
        bar.set_position(done as u64 * parts);
        let pace = Arc::new(Mutex::new(Pace { started: Instant::now(), done: 0, note: None, paused: None }));
        let lines = !is_quiet && bar.is_hidden();
        let end = lines.then(|| print_lines(what.to_string(), bar.clone(), parts, Arc::clone(&pace)));
        Self { bar, parts, pace, _end_of_lines: end }
    }

    pub fn step(&self) {
        self.advance(1);
    }

    /// Counts parts of steps.
    pub fn advance(&self, by: usize) {
        let mut pace = lock(&self.pace);
        pace.done += by as u32;
        if let Some(left) = pace.left(&self.bar, self.bar.position() + by as u64) {
            self.bar.set_message(left);
        }
        self.bar.inc(by as u64);
    }

    pub fn set_steps(&self, steps: usize) {
        self.bar.set_length(steps as u64 * self.parts);
    }

    /// Until [`Self::go_on`], time does not count.
    pub fn pause(&self) {
        lock(&self.pace).paused.get_or_insert_with(Instant::now);
    }

    /// Shows what is done meanwhile, until [`Self::go_on`].
    pub fn note(&self, text: String) {
        self.bar.set_message(text.clone());
        lock(&self.pace).note = Some(text);
    }

    pub fn go_on(&self) {
        let mut pace = lock(&self.pace);
        if let Some(paused) = pace.paused.take() {
            pace.started += paused.elapsed();
        }
        pace.note = None;
        self.bar.set_message(pace.left(&self.bar, self.bar.position()).unwrap_or_default());
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
    /// The time left, once a part of a step is done in this process.
    fn left(&self, bar: &ProgressBar, position: u64) -> Option<String> {
        let todo = bar.length()?.saturating_sub(position);
        let until = self.paused.unwrap_or_else(Instant::now);
        let per_part = until.duration_since(self.started).checked_div(self.done)?;
        Some(format!("{} left", FormattedDuration(per_part.mul_f64(todo as f64))))
    }

    /// What is said after the steps that are done.
    fn remark(&self, bar: &ProgressBar) -> String {
        let remarks = [self.left(bar, bar.position()), self.note.clone()];
        remarks.into_iter().flatten().map(|remark| format!(", {remark}")).collect()
    }
}

/// Prints a line every half minute until the sender is dropped.
fn print_lines(what: String, bar: ProgressBar, parts: u64, pace: Arc<Mutex<Pace>>) -> Sender<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while receiver.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
            let (done, all) = (bar.position() / parts, bar.length().unwrap_or_default() / parts);
            let now = Local::now().format("%Y-%m-%d %H:%M:%S");
            eprintln!("{now}  {done} of {all} {what} done{}", lock(&pace).remark(&bar));
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
