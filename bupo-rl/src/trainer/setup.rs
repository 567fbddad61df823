//! Setup of a run: everything is loaded and checked before training starts.

use std::path::Path;

use bupo_models::{ModelFiles, TextTokenizer, load_model};
use bupo_runs::{Checkpoint, CheckpointStore, RunLock};
use burn::tensor::backend::Backend;

use super::outcome::Start;
use super::progress::Progress;
use super::run_folder::RunFolder;
use super::state::TrainerState;
use super::{Trainer, snapshot};
use crate::RlError;
use crate::config::TrainConfig;
use crate::data::{ArithmeticQuestions, FileQuestions, Questions};
use crate::update::DecoderOptimizer;

impl<B: Backend> Trainer<B> {
    pub(super) fn new(
        config: TrainConfig,
        files: &ModelFiles,
        folder: &Path,
        start: &Start,
        device: &B::Device,
        progress: &mut dyn Progress,
    ) -> Result<Self, RlError> {
        // Locked before the folder is read, so that no other process changes it meanwhile.
        let lock = if *start == Start::Resume { Some(RunLock::acquire(folder)?) } else { None };
        let num_layers = bupo_models::pretrained::load_config(files)?.num_hidden_layers;
        let schedule = config.schedule(num_layers)?;
        let tokenizer = TextTokenizer::load(files)?;
        let questions: Box<dyn Questions> = if config.data.train.is_empty() {
            Box::new(ArithmeticQuestions {
                task: config.task.task(),
                tokenizer: tokenizer.clone(),
                seed: config.seed,
                per_draw: config.rollout.prompts,
                held_out: config.evaluation.problems,
            })
        } else {
            Box::new(FileQuestions::new(&config, files)?)
        };
        let dtype = config.dtype.for_model::<B>(files, device)?;
        let mut model = load_model::<B>(files, device)?;
        model.decoder = model.decoder.with_compute_dtype(dtype);
        if model.eos_token_ids.is_empty() {
            return Err(RlError::Config(
                "the model has no end-of-sequence token, so that every response would be truncated; set eos_token_id in its \
                 generation_config.json"
                    .into(),
            ));
        }
        let reference = config.objective.needs_reference().then(|| model.decoder.clone());
        let mut state = TrainerState {
            step: 0,
            draws: 0,
            grading_failures: 0,
            skipped_in_row: 0,
            schedule,
            before: None,
            newest: None,
            best: None,
            without_gain: 0,
            probe: None,
            initial_policy: None,
            guard: Default::default(),
            optimizer_steps: Default::default(),
        };
        let mut optimizer = DecoderOptimizer::new(config.optimizer);
        let found = match start {
            Start::New => None,
            Start::Resume => {
                let store = CheckpointStore::new(folder);
                store.clean()?;
                newest(&store, folder, progress)?
            }
            Start::Fork { from, step } => Some(match step {
                Some(step) => CheckpointStore::new(from).verify(*step).map_err(bupo_runs::RunsError::from)?,
                None => newest(&CheckpointStore::new(from), from, progress)?.ok_or_else(|| RlError::NoData {
                    path: from.clone(),
                    reason: "it has no intact checkpoint to fork from".into(),
                })?,
            }),
        };
        if let Some(checkpoint) = &found {
            let path = &checkpoint.path;
            let error = |reason: String| RlError::NoData { path: path.clone(), reason };
            let saved_state = snapshot::read_state(checkpoint)?;
            let saved = bupo_models::pretrained::load_config(&ModelFiles::folder(&path.join("model"))?)?;
            if saved != model.config {
                return Err(error(
                    "the checkpoint is of a model with another config.json; give the model that the run was started with".into(),
                ));
            }
            model.decoder = snapshot::read_model(path, device)?.with_compute_dtype(dtype);
            optimizer.restore(snapshot::read_moments(path, &saved_state.optimizer_steps, device)?);
            let mut schedule = state.schedule;
            schedule.restore(&saved_state.schedule);
            state = TrainerState { schedule, ..saved_state };
            if matches!(start, Start::Fork { .. }) {
                // That checkpoint is in the parent run's folder.
                state.guard.best = None;
            }
            if state.schedule.steps() < state.step {
                return Err(RlError::Config(format!(
                    "the phases have {} steps but {} are done; raise phases.*.steps",
                    state.schedule.steps(),
                    state.step
                )));
            }
        }
        let (toml, steps) = (config.to_toml()?, state.schedule.steps());
        let run = match (start, lock) {
            (Start::Resume, Some(lock)) => {
                RunFolder::resume(folder, lock, &toml, found.as_ref().map(|_| state.step), steps)?
            }
            (Start::Fork { from, .. }, _) => RunFolder::fork(folder, from, &toml, state.step, steps)?,
            _ => RunFolder::create(folder, &toml, steps)?,
        };
        let failures_before = state.grading_failures;
        Ok(Self {
            config,
            model,
            tokenizer,
            questions,
            state,
            failures_before,
            checkpoint_writer: None,
            optimizer,
            reference,
            run,
            memory_warnings: Vec::new(),
        })
    }
}

/// The newest intact checkpoint; damaged newer ones are reported.
fn newest(store: &CheckpointStore, folder: &Path, progress: &mut dyn Progress) -> Result<Option<Checkpoint>, RlError> {
    if !folder.join("config.toml").is_file() {
        return Err(RlError::NoData {
            path: folder.to_path_buf(),
            reason: "it is not a run folder: it has no config.toml".into(),
        });
    }
    let newest = store.newest()?;
    if !newest.skipped_damaged.is_empty() {
        progress.skipped_damaged(&newest.skipped_damaged);
    }
    Ok(newest.checkpoint)
}
