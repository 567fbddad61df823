//! The interface through which a run reports its progress.

use std::path::Path;

use bupo_analysis::Boundary;
use bupo_eval::{BenchmarkResult, Evaluation};
use bupo_runs::Damaged;

use super::metrics::StepMetrics;
use crate::config::TrainConfig;
use crate::phases::Phase;

/// Receives the events of a run.
pub trait Progress: Sync {
    /// The model is loaded and everything is checked.
    fn ready(&mut self, plan: &RunHeader<'_>);
    /// An evaluation is about to start.
    fn evaluating(&mut self, when: &str);
    /// `done` of `all` responses of an evaluation are sampled.
    fn sampled(&self, _done: usize, _all: usize) {}
    /// An evaluation is done.
    fn evaluated(&mut self, when: &str, evaluation: &Evaluation);
    /// One of several benchmarks of an evaluation is done; their mean is reported next.
    fn evaluated_benchmark(&self, _result: &BenchmarkResult) {}
    /// The layer of phases with `layer = "auto"` was chosen.
    fn boundary(&mut self, boundary: &Boundary);
    /// Damaged checkpoints were skipped; the run continues from an older one.
    fn skipped_damaged(&mut self, damaged: &[Damaged]);
    /// A phase begins; the schedule has `steps` steps in total.
    fn phase(&mut self, number: usize, phase: &Phase, steps: usize);
    /// A step is done.
    fn step(&mut self, metrics: &StepMetrics);
    /// A problem that does not stop the run, or the reason why nothing is done: what it is and how to fix it.
    fn warning(&mut self, text: &str);
    /// The free share of the device's memory, in [0, 1]; `None` if unknown. When it is low, batches are made smaller.
    fn memory_free(&mut self) -> Option<f64> {
        None
    }
}

/// Facts about a run that is about to start.
#[derive(Debug)]
pub struct RunHeader<'a> {
    /// The resolved settings.
    pub config: &'a TrainConfig,
    /// Steps of all phases.
    pub steps: usize,
    /// Layers of the model.
    pub num_layers: usize,
    /// Parameters of the model.
    pub num_params: usize,
    /// The questions, described in one line.
    pub questions: String,
    /// The run folder.
    pub folder: &'a Path,
    /// Steps done before.
    pub done: usize,
}
