//! The training loop: rollouts, rewards, old log-probs, advantages, updates, phase by phase.

mod checkpoints;
mod critic;
mod entropy_target;
mod evaluations;
mod first_step;
mod guard;
mod inputs;
mod kept_rollouts;
mod memory;
mod memory_plan;
mod metrics;
mod mini_batch;
mod moments;
mod outcome;
mod probe;
mod probe_states;
mod progress;
mod rounding;
mod run_folder;
mod servers;
mod setup;
mod shrink;
mod snapshot;
mod state;
mod step;
mod trained;
mod updates;
mod warning;
mod warnings;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bupo_collective::Processes;
use bupo_models::decoder::named_tensors;
use bupo_models::{Adapter, Decoder, LoadedModel, ModelFiles, SaveDtype, SaveOptions, TextTokenizer};
use bupo_runs::Status;
use burn::tensor::backend::Backend;

use crate::RlError;
use crate::agree::Agree;
use crate::config::TrainConfig;
use crate::data::{Questions, prompt_renderer};
use crate::update::{Critic, DecoderOptimizer};
use rounding::WeightSample;
use servers::Servers;
use setup::finished_run;
use state::{Evaluated, TrainerState};

pub use critic::CriticMetrics;
pub use evaluations::{AutoLayer, EvaluationLine, KeptCompletion};
pub use first_step::FirstStep;
pub use kept_rollouts::KeptRollout;
pub use memory_plan::{MemoryPlan, PhasePlan, RunPlan};
pub(crate) use metrics::nan_if_null;
pub use metrics::{PolicyMetrics, StepMetrics, StepParts, Timing, UpdateMetrics};
pub use outcome::{Outcome, Start};
pub use probe::ProbeLine;
pub use progress::{Progress, RunHeader};
pub use run_folder::{ROLLOUTS, RunFolder, make_empty_folder};
pub use shrink::shrink_to_memory;
pub use warning::{Warning, WarningKind};

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
    train_among::<B>(config, files, folder, start, stop, device, progress, &Processes::alone())
}

/// The same by several processes, which all call this with the same settings, files and start. The update is the one of a single
/// process. Process 0 alone reads and writes the folder; a checkpoint does not depend on the number of processes.
///
/// # Errors
/// As [`train`]: [`RlError::Process`] in all processes where they learn of it together, else the process's own error, upon which the
/// caller has to end the others ([`Processes::abort`]).
#[expect(clippy::too_many_arguments, reason = "those of `train` and the processes")]
pub fn train_among<B: Backend>(
    config: &TrainConfig,
    files: &ModelFiles,
    folder: &Path,
    start: &Start,
    stop: &AtomicBool,
    device: &B::Device,
    progress: &mut dyn Progress,
    processes: &Processes,
) -> Result<Outcome, RlError> {
    processes.set_limit(Duration::from_secs(config.distributed.timeout));
    let dtype = config.dtype.for_model::<B>(files, device)?;
    config.optimizer.check::<B>(dtype, device)?;
    let mut config = TrainConfig { dtype: dtype.into(), ..config.clone() };
    if config.data.template_date.is_none() && !config.data.is_embedded_task() {
        config.data.template_date = processes.agreed_first(|| Ok(prompt_renderer(&config.data, files)?.date()))?;
    }
    if *start == Start::Resume
        && let Some(outcome) = processes.agreed_first(|| finished_run(&config, files, folder))?
    {
        let outcome = Outcome { folder: folder.to_path_buf(), model: folder.join(config.result()), ..outcome };
        progress.warning(&format!(
            "the run in {} is finished: all {} steps are done and nothing is left to do; raise phases.*.steps to continue it",
            folder.display(),
            outcome.steps
        ));
        return Ok(outcome);
    }
    let mut trainer = Trainer::<B>::new(config, files, folder, start, device, progress, processes)?;
    progress.ready(&trainer.header());
    let outcome = trainer.run(stop, progress).map_err(|error| trainer.keep_steps(error));
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

struct Trainer<'a, B: Backend> {
    processes: &'a Processes,
    config: TrainConfig,
    model: LoadedModel<B>,
    tokenizer: TextTokenizer,
    questions: Box<dyn Questions>,
    /// The contents of a checkpoint besides weights and moments.
    state: TrainerState,
    /// Responses that scorers failed to grade before this process resumed the run.
    failures_before: usize,
    /// The same of the other processes, as of the last step.
    failures_of_others: usize,
    /// The thread that writes the newest checkpoint.
    checkpoint_writer: Option<JoinHandle<Result<(), RlError>>>,
    optimizer: DecoderOptimizer<B>,
    /// The critic of `objective.advantage = "gae"`.
    critic: Option<Critic<B>>,
    /// The model before training, if the loss has a KL term to it. Parameters that training has not changed are shared with the
    /// model, not copied.
    reference: Option<Decoder<B>>,
    run: RunFolder,
    /// The servers that sample; `None` for the own generation.
    servers: Option<Servers>,
    /// A sample of the weights before training, to count what rounding to the saved dtype sets back.
    initial_weights: WeightSample,
    /// Warnings about reduced batches since the last step's metrics.
    memory_warnings: Vec<Warning>,
}

impl<B: Backend> Trainer<'_, B> {
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
            // In a fork with other evaluation settings, after the parent's steps.
            let before = self.evaluate(self.state.step, progress)?;
            progress.evaluated("before", &before.mean);
            self.state.best = Some((self.state.step, before.mean.avg_at_k));
            self.state.before = Some(before);
        }
        let every = self.config.evaluation.every;
        while self.state.step < self.state.schedule.steps() && !self.early_stopped() {
            self.processes.place(&format!("the start of step {}", self.state.step + 1));
            if self.processes.gather(stop.load(Ordering::Relaxed))?.contains(&true) {
                return self.stopped();
            }
            let step = self.state.step + 1;
            self.start_phase_guard(step)?;
            let draws = self.state.draws;
            let metrics = self.step(step, progress).inspect_err(|_| {
                // A step that failed draws its prompts again when the run is resumed.
                self.state.draws = draws;
            })?;
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
                self.evaluate(last, progress)?
            }
        };
        progress.evaluated("after", &after.mean);
        self.record_evaluation(last, after.clone());
        self.checkpoint()?;
        self.join_checkpoint_writer()?;
        let outcome = self.save_model(after, progress)?;
        self.run.evaluations(&outcome)?;
        Ok(outcome)
    }

    /// Writes a checkpoint if a server's failure ends the run, so that no step is lost. Nothing of the failed step has changed the
    /// state.
    fn keep_steps(&mut self, error: RlError) -> RlError {
        // Only where all processes know of the failure: they write the checkpoint together.
        let is_shared = self.processes.is_alone() || matches!(error, RlError::Process { .. });
        if is_shared && self.config.rollout.has_servers() && error.is_of_an_engine() && self.state.step > 0 {
            // The first error is returned; the checkpoints before are intact.
            let _ = self.checkpoint();
        }
        error
    }

    fn stopped(&mut self) -> Result<Outcome, RlError> {
        self.checkpoint()?;
        self.join_checkpoint_writer()?;
        Ok(self.outcome(None, self.run.path().join(self.config.result())))
    }

    /// Saves the model, in f32 if its own dtype would set back more than a twentieth of the changed weights.
    fn save_model(&self, after: Evaluated, progress: &mut dyn Progress) -> Result<Outcome, RlError> {
        if !self.processes.is_first() {
            return Ok(self.outcome(Some(after), self.run.path().join(self.config.result())));
        }
        if self.config.lora.is_on() {
            let adapter = Adapter::of(&self.model.decoder, &self.config.lora);
            let folder = self.run.adapter(&adapter, self.config.model.as_deref())?;
            return Ok(self.outcome(Some(after), folder));
        }
        let weights = named_tensors(&self.model.decoder);
        let asked = self.config.save_dtype;
        let dtype = |name: &str| asked.or(self.model.assets.stored_dtype(name)).unwrap_or(SaveDtype::F32);
        let rounded_away = self.initial_weights.rounded_away(&weights, dtype);
        let is_large = rounded_away.is_some_and(|share| share > rounding::MAX_SHARE);
        let save_dtype = (is_large && asked.is_none()).then_some(SaveDtype::F32);
        if let (Some(share), true) = (rounded_away, is_large) {
            progress.warning(&rounding::warning(share, save_dtype.is_some()));
        }
        let options = SaveOptions { dtype: asked.or(save_dtype), ..SaveOptions::default() };
        let model = self.run.model(weights, &self.model.assets, options)?;
        Ok(Outcome { rounded_away, save_dtype, ..self.outcome(Some(after), model) })
    }

    fn outcome(&self, after: Option<Evaluated>, model: PathBuf) -> Outcome {
        let before = self.state.before.clone().unwrap_or_default();
        let (after, after_by_benchmark) = after.map(|after| (after.mean, after.benchmarks)).unzip();
        Outcome {
            before: before.mean,
            after,
            before_by_benchmark: before.benchmarks,
            after_by_benchmark: after_by_benchmark.unwrap_or_default(),
            rounded_away: None,
            save_dtype: None,
            steps: self.state.step,
            best_step: self.state.best.map(|(step, _)| step).filter(|_| self.config.evaluation.every > 0),
            folder: self.run.path().to_path_buf(),
            model,
        }
    }

    fn grading_failures(&self) -> usize {
        self.failures_before + self.questions.failures().count + self.failures_of_others
    }
}
