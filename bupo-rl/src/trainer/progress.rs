//! The interface through which a run reports its progress.

use std::path::Path;

use bupo_analysis::Boundary;
use bupo_eval::Evaluation;
use bupo_runs::Damaged;

use super::metrics::StepMetrics;
use crate::config::TrainConfig;
use crate::phases::Phase;

/// Receives the events of a run.
pub trait Progress {
    /// The model is loaded and everything is checked.
    fn ready(&mut self, plan: &RunHeader<'_>);
    /// An evaluation is about to start.
    fn evaluating(&mut self, when: &str);
    /// An evaluation is done.
    fn evaluated(&mut self, when: &str, evaluation: &Evaluation);
    /// The layer of the phases that leave it open was found.
    fn boundary(&mut self, boundary: &Boundary);
    /// Checkpoints were damaged, and an older one is gone on from.
    fn skipped_damaged(&mut self, damaged: &[Damaged]);
    /// A phase begins; the run has so many steps in all, as it now stands.
    fn phase(&mut self, number: usize, phase: &Phase, steps: usize);
    /// A step is done.
    fn step(&mut self, metrics: &StepMetrics);
    /// The share of its memory that the device has free, which a run that takes too much of it is made smaller by; nothing where nobody
    /// knows.
    fn memory_free(&mut self) -> Option<f64> {
        None
    }
}

/// What a run is about to do.
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
    /// The questions, in a line.
    pub questions: String,
    /// The run folder.
    pub folder: &'a Path,
    /// Steps that are done already.
    pub done: usize,
}
