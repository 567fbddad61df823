//! The training loop: rollouts, rewards, old log-probs, advantages, updates, phase by phase.

mod checkpoints;
mod evaluations;
mod guard;
mod memory;
mod memory_plan;
mod metrics;
mod mini_batch;
mod outcome;
mod probe;
mod progress;
mod run_folder;
mod setup;
mod snapshot;
mod state;
mod step;
mod updates;
mod warnings;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use bupo_eval::Evaluation;
use bupo_models::{Decoder, LoadedModel, ModelFiles, SaveOptions, TextTokenizer};
use bupo_runs::Status;
use burn::tensor::backend::Backend;

use crate::RlError;
use crate::config::TrainConfig;
use crate::data::Questions;
use crate::update::DecoderOptimizer;
use state::TrainerState;

pub use evaluations::{AutoLayer, KeptCompletion};
pub use memory_plan::{MemoryPlan, PhasePlan, RunPlan, shrink_to_memory};
pub(crate) use metrics::nan_if_null;
pub use metrics::{PolicyMetrics, StepMetrics, Timing, UpdateMetrics};
pub use outcome::{Outcome, Start};
pub use probe::ProbeLine;
pub use progress::{Progress, RunHeader};
pub use run_folder::{RunFolder, make_empty_folder};
pub use warnings::{Warning, WarningKind};

/// Trains a model and writes a run folder: settings, metrics, completions, evaluations, checkpoints, the model. When `stop`
/// becomes true, the current step is finished, a checkpoint is written, and the run ends.
///
/// On the same CPU, a resumed run equals an uninterrupted one bit for bit, except for the durations in its metrics.
///
/// # Errors
/// Before training starts: if the model cannot be loaded, the device does not support the dtype, a site is outside the model,
/// the folder is not empty or cannot be written, or there is no intact checkpoint to continue from. Later: if the policy's
/// logits are not finite, too many updates in a row were skipped, or a file cannot be written; checkpoints stay valid.
pub fn train<B: Backend>(
    config: &TrainConfig,
    files: &ModelFiles,
    folder: &Path,
    start: &Start,
    stop: &AtomicBool,
    device: &B::Device,
    progress: &mut dyn Progress,
) -> Result<Outcome, RlError> {
    let dtype = config.dtype.for_model::<B>(files, device)?;
    let config = TrainConfig { dtype: dtype.into(), ..config.clone() };
    let mut trainer = Trainer::<B>::new(config, files, folder, start, device, progress)?;
    progress.ready(&trainer.header());
    let outcome = trainer.run(stop, progress);
    // A checkpoint being written is finished in any case.
    let written = trainer.join_checkpoint_writer();
    let outcome = outcome.and_then(|outcome| written.map(|()| outcome));
    trainer.run.end(match &outcome {
        Ok(Outcome { after: Some(_), .. }) => Status::Finished,
        Ok(_) => Status::Stopped,
        Err(error) => Status::Failed { reason: error.to_string() },
    });
    outcome
}

struct Trainer<B: Backend> {
    config: TrainConfig,
    model: LoadedModel<B>,
    tokenizer: TextTokenizer,
    questions: Box<dyn Questions>,
    /// The contents of a checkpoint besides weights and moments.
    state: TrainerState,
    /// Responses that scorers failed to grade before this process resumed the run.
    failures_before: usize,
    /// The thread that writes the newest checkpoint.
    checkpoint_writer: Option<JoinHandle<Result<(), RlError>>>,
    optimizer: DecoderOptimizer<B>,
    /// The model before training, if the loss has a KL term to it. Parameters that training has not changed are shared with the
    /// model, not copied.
    reference: Option<Decoder<B>>,
    run: RunFolder,
    /// Warnings about reduced batches since the last step's metrics.
    memory_warnings: Vec<Warning>,
}

impl<B: Backend> Trainer<B> {
    fn header(&self) -> RunHeader<'_> {
        RunHeader {
            config: &self.config,
            steps: self.state.schedule.steps(),
            num_layers: self.model.config.num_hidden_layers,
            num_params: burn::module::Module::num_params(&self.model.decoder),
            questions: self.questions.describe(),
            folder: self.run.path(),
            done: self.state.step,
        }
    }

    fn run(&mut self, stop: &AtomicBool, progress: &mut dyn Progress) -> Result<Outcome, RlError> {
        if self.state.before.is_none() {
            progress.evaluating("before");
            let before = self.evaluate(0)?;
            progress.evaluated("before", &before);
            self.state.best = Some((0, before.avg_at_k));
            self.state.before = Some(before);
        }
        let every = self.config.evaluation.every;
        while self.state.step < self.state.schedule.steps() && !self.early_stopped() {
            if stop.load(Ordering::Relaxed) {
                return self.stopped();
            }
            let step = self.state.step + 1;
            self.start_phase_guard(step)?;
            let metrics = self.step(step, progress)?;
            self.state.step = step;
            progress.step(&metrics);
            self.probe(step)?;
            if every > 0 && step.is_multiple_of(every) && step < self.state.schedule.steps() {
                self.evaluate_during(step, progress)?;
            }
            let checkpoints = self.config.checkpoint.every;
            let kept = checkpoints > 0 && step.is_multiple_of(checkpoints);
            // Every evaluated step has a checkpoint, so that the best one can be kept.
            if (kept || every > 0 && step.is_multiple_of(every)) && step < self.state.schedule.steps() {
                self.checkpoint()?;
            }
        }
        let last = self.state.step;
        let after = match self.state.newest.take() {
            Some((step, evaluation)) if step == last => evaluation,
            _ => {
                progress.evaluating("after");
                self.evaluate(last)?
            }
        };
        progress.evaluated("after", &after);
        self.record_evaluation(last, after.clone());
        self.checkpoint()?;
        self.join_checkpoint_writer()?;
        let options = SaveOptions { dtype: self.config.save_dtype, ..SaveOptions::default() };
        let model = self.run.model(&self.model, options)?;
        let outcome = self.outcome(Some(after), model);
        self.run.evaluations(&outcome)?;
        Ok(outcome)
    }

    fn stopped(&mut self) -> Result<Outcome, RlError> {
        self.checkpoint()?;
        self.join_checkpoint_writer()?;
        Ok(self.outcome(None, self.run.path().join("model")))
    }

    fn outcome(&self, after: Option<Evaluation>, model: PathBuf) -> Outcome {
        Outcome {
            before: self.state.before.clone().unwrap_or_else(|| Evaluation::of(&[])),
            after,
            steps: self.state.step,
            best_step: self.state.best.map(|(step, _)| step).filter(|_| self.config.evaluation.every > 0),
            folder: self.run.path().to_path_buf(),
            model,
        }
    }

    fn grading_failures(&self) -> usize {
        self.failures_before + self.questions.failures().count
    }
}
