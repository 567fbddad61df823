//! The log of one of several processes that train, and what the first of them prints.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use bupo_analysis::Boundary;
use bupo_collective::Processes;
use bupo_eval::{BenchmarkResult, Evaluation};
use bupo_rl::{Phase, Progress, RunHeader, StepMetrics};
use bupo_runs::Damaged;

use super::train::{TrainScreen, parts};
use crate::distributed::log_file;

/// Progress of a run as one of its processes reports it: the first one on the screen, each in a log of its own if there are several.
pub struct RankLog {
    screen: TrainScreen,
    rank: usize,
    size: usize,
    /// Opened when the run's folder is there.
    file: Option<File>,
}

impl RankLog {
    pub fn new(screen: TrainScreen, processes: &Processes) -> Self {
        Self { screen, rank: processes.rank(), size: processes.size(), file: None }
    }

    /// The screen of the first process.
    pub fn into_screen(self) -> TrainScreen {
        self.screen
    }

    /// Writes a line to the log. A full disk is reported by the first process, which writes the run's files.
    pub fn line(&mut self, line: &str) {
        if let Some(file) = &mut self.file {
            writeln!(file, "{} {line}", chrono::Local::now().format("%F %T")).ok();
        }
    }

    fn is_first(&self) -> bool {
        self.rank == 0
    }

    fn on_screen(&mut self, show: impl FnOnce(&mut TrainScreen)) {
        if self.is_first() {
            show(&mut self.screen);
        }
    }
}

impl Progress for RankLog {
    fn ready(&mut self, plan: &RunHeader<'_>) {
        if self.size > 1 {
            let path = log_file(plan.folder, self.rank);
            path.parent().map(fs::create_dir_all);
            self.file = OpenOptions::new().create(true).append(true).open(path).ok();
            let (rank, size, done) = (self.rank, self.size, plan.done);
            let host = sysinfo::System::host_name().unwrap_or_else(|| "an unnamed machine".into());
            let id = std::process::id();
            self.line(&format!(
                "process {rank} of {size} on {host}, process id {id}, {} steps, {done} done",
                plan.steps
            ));
        }
        self.on_screen(|screen| screen.ready(plan));
    }

    fn evaluating(&mut self, when: &str) {
        self.line(&format!("evaluating {when}"));
        self.on_screen(|screen| screen.evaluating(when));
    }

    fn sampled(&self, done: usize, all: usize) {
        if self.is_first() {
            self.screen.sampled(done, all);
        }
    }

    fn evaluated(&mut self, when: &str, evaluation: &Evaluation) {
        self.line(&format!("{when}: Avg@{} {:.3}", evaluation.samples, evaluation.avg_at_k));
        self.on_screen(|screen| screen.evaluated(when, evaluation));
    }

    fn evaluated_benchmark(&self, result: &BenchmarkResult) {
        if self.is_first() {
            self.screen.evaluated_benchmark(result);
        }
    }

    fn boundary(&mut self, boundary: &Boundary) {
        self.on_screen(|screen| screen.boundary(boundary));
    }

    fn skipped_damaged(&mut self, damaged: &[Damaged]) {
        self.on_screen(|screen| screen.skipped_damaged(damaged));
    }

    fn phase(&mut self, number: usize, phase: &Phase, steps: usize) {
        self.line(&format!("phase {number}: {}", phase.site));
        self.on_screen(|screen| screen.phase(number, phase, steps));
    }

    fn step(&mut self, metrics: &StepMetrics) {
        self.line(&format!("step {}: reward {:.3}  {}", metrics.step, metrics.rollout.reward, parts(metrics)));
        self.on_screen(|screen| screen.step(metrics));
    }

    fn warning(&mut self, text: &str) {
        self.line(&format!("warning: {text}"));
        self.on_screen(|screen| screen.warning(text));
    }

    fn memory_free(&mut self) -> Option<f64> {
        self.screen.memory_free()
    }
}
