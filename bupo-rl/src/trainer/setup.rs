//! Setup of a run: everything is loaded and checked before training starts.

use std::fs;
use std::path::Path;

use bupo_collective::Processes;
use bupo_models::{ModelFiles, TextTokenizer};
use bupo_runs::{Checkpoint, CheckpointStore, RunLock, RunState, Status};
use burn::tensor::backend::Backend;

use super::critic::{new_critic, read_critic};
use super::inputs::Inputs;
use super::moments::read_moments;
use super::outcome::{Outcome, Start};
use super::progress::Progress;
use super::rounding::WeightSample;
use super::run_folder::RunFolder;
use super::servers::{Servers, connect};
use super::state::TrainerState;
use super::trained::load_for_training;
use super::{Trainer, snapshot};
use crate::RlError;
use crate::agree::Agree;
use crate::config::{Shard, TrainConfig};
use crate::data::{ArithmeticQuestions, FileQuestions, Questions};
use crate::phases::Schedule;
use crate::update::DecoderOptimizer;

impl<'a, B: Backend> Trainer<'a, B> {
    pub(super) fn new(
        config: TrainConfig,
        files: &ModelFiles,
        folder: &Path,
        start: &Start,
        device: &B::Device,
        progress: &mut dyn Progress,
        processes: &'a Processes,
    ) -> Result<Self, RlError> {
        // Locked before the folder is read, so that no other process changes it meanwhile.
        let is_resumed_here = *start == Start::Resume && processes.is_first();
        let lock = if is_resumed_here { Some(RunLock::acquire(folder)?) } else { None };
        let schedule = schedule(&config, files)?;
        let tokenizer = TextTokenizer::load(files)?;
        let questions = questions(&config, files, &tokenizer)?;
        let inputs = Inputs::read(&config, files)?;
        let servers =
            if processes.is_first() { connect(&config, &bupo_models::pretrained::load_config(files)?)? } else { None };
        let mut model = load_for_training::<B>(&config, files, device)?;
        if model.eos_token_ids.is_empty() {
            return Err(RlError::Config(
                "the model has no end-of-sequence token, so that every response would be truncated; set eos_token_id in its \
                 generation_config.json"
                    .into(),
            ));
        }
        if let Some(warning) = questions.end_of_turn_warning(&model.eos_token_ids) {
            progress.warning(&warning);
        }
        let initial_weights = WeightSample::new(&model.decoder);
        check_alike(&inputs, &initial_weights, processes)?;
        // Of a model with an adapter the one without it: its weights are shared, not copied.
        let reference = config.objective.needs_reference().then(|| {
            let decoder = model.decoder.clone();
            if config.lora.is_on() { decoder.without_adapter() } else { decoder }
        });
        let mut optimizer = DecoderOptimizer::new(config.optimizer).with_seed(config.seed);
        if config.distributed.shard == Shard::Optimizer && !processes.is_alone() {
            optimizer = optimizer.sharded();
        }
        let mut critic = new_critic(&config, &model.decoder)?;
        let mut state = TrainerState::new(schedule, inputs);
        processes.place("reading the checkpoint");
        let checkpoint = processes.agreed_first(|| {
            let Some(checkpoint) = checkpoint(folder, start, progress)? else { return Ok(None) };
            let saved = snapshot::read_state(&checkpoint)?;
            if *start == Start::Resume {
                state.inputs.check(&saved.inputs)?;
            }
            let path = checkpoint.path;
            snapshot::check(&path, &config, &model.config)?;
            Ok(Some((path, saved)))
        })?;
        let is_continued = checkpoint.is_some();
        if let Some((path, saved)) = checkpoint {
            model.decoder = snapshot::read_model(&path, model.decoder, &config, &model.config, processes)?;
            optimizer.restore(read_moments(&path, &saved.optimizer_steps, &optimizer, device, processes)?);
            if let Some(critic) = &mut critic {
                read_critic(&path, saved.critic.as_ref(), critic, device, processes)?;
            }
            state = state.continued(saved);
            if let Start::Fork { from, .. } = start {
                state.forked(evaluates_alike(&config, from));
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
            _ if !processes.is_first() => RunFolder::of_another_process(folder, steps),
            (Start::Resume, Some(lock)) => {
                RunFolder::resume(folder, lock, &toml, is_continued.then_some(state.step), steps)?
            }
            (Start::Fork { from, .. }, _) => RunFolder::fork(folder, from, &toml, state.step, steps)?,
            _ => RunFolder::create(folder, &toml, steps)?,
        };
        if let Some(probe) = state.probe.as_mut().filter(|_| processes.is_first()) {
            probe.read_states(folder)?;
        }
        let servers = servers.map(|servers| Servers::new(servers, &config.rollout, folder)).transpose()?;
        let failures_before = state.grading_failures;
        // No process starts before the folder is there.
        processes.agreed(Ok(()))?;
        Ok(Self {
            processes,
            config,
            model,
            tokenizer,
            questions,
            state,
            failures_before,
            failures_of_others: 0,
            checkpoint_writer: None,
            optimizer,
            critic,
            reference,
            run,
            servers,
            initial_weights,
            memory_warnings: Vec::new(),
        })
    }
}

/// The outcome of a run that has finished and has no steps left with these settings; `None` for any other.
pub(super) fn finished_run(
    config: &TrainConfig,
    files: &ModelFiles,
    folder: &Path,
) -> Result<Option<Outcome>, RlError> {
    let is_finished = RunState::read(folder).is_ok_and(|state| state.status == Status::Finished);
    let checkpoint = if is_finished { CheckpointStore::new(folder).newest()?.checkpoint } else { None };
    let Some(checkpoint) = checkpoint else { return Ok(None) };
    let state =
        TrainerState::new(schedule(config, files)?, Inputs::default()).continued(snapshot::read_state(&checkpoint)?);
    if state.step < state.schedule.steps() && !state.early_stopped(config.evaluation.patience) {
        return Ok(None);
    }
    // Without a readable outcome the run is resumed, which evaluates and writes it again.
    let outcome = fs::read(folder.join("evaluation.json")).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let model = folder.join(config.result());
    Ok(outcome.map(|outcome: Outcome| Outcome { folder: folder.to_path_buf(), model, ..outcome }))
}

/// Checks that all processes have the same input files and the same weights.
fn check_alike(inputs: &Inputs, weights: &WeightSample, processes: &Processes) -> Result<(), RlError> {
    let all = processes.gather((inputs.clone(), weights.digest()))?;
    for (rank, (others, digest)) in all.iter().enumerate() {
        if let Some(name) = all[0].0.difference(others) {
            return Err(RlError::Config(format!(
                "process {rank} of {} has another {name} than process 0; give all of them the same files",
                all.len()
            )));
        }
        if *digest != all[0].1 {
            return Err(RlError::Config(format!(
                "process {rank} of {} has other weights than process 0; give all of them the same model",
                all.len()
            )));
        }
    }
    Ok(())
}

fn schedule(config: &TrainConfig, files: &ModelFiles) -> Result<Schedule, RlError> {
    config.schedule(bupo_models::pretrained::load_config(files)?.num_hidden_layers)
}

pub(super) fn questions(
    config: &TrainConfig,
    files: &ModelFiles,
    tokenizer: &TextTokenizer,
) -> Result<Box<dyn Questions>, RlError> {
    if !config.data.is_embedded_task() {
        return Ok(Box::new(FileQuestions::new(config, files)?));
    }
    Ok(Box::new(ArithmeticQuestions {
        task: config.task.task(),
        tokenizer: tokenizer.clone(),
        seed: config.seed,
        per_draw: config.rollout.prompts,
        held_out: config.evaluation.problems,
        truncated: config.truncated_reward(),
    }))
}

/// The checkpoint that a run continues from.
fn checkpoint(folder: &Path, start: &Start, progress: &mut dyn Progress) -> Result<Option<Checkpoint>, RlError> {
    match start {
        Start::New => Ok(None),
        Start::Resume => {
            let store = CheckpointStore::new(folder);
            store.clean()?;
            newest(&store, folder, progress)
        }
        Start::Fork { from, step: Some(step) } => {
            Ok(Some(CheckpointStore::new(from).verify(*step).map_err(bupo_runs::RunsError::from)?))
        }
        Start::Fork { from, step: None } => {
            let newest = newest(&CheckpointStore::new(from), from, progress)?;
            let missing =
                || RlError::NoData { path: from.clone(), reason: "it has no intact checkpoint to fork from".into() };
            newest.map(Some).ok_or_else(missing)
        }
    }
}

/// Whether a fork evaluates the same responses of the same model as its parent.
fn evaluates_alike(config: &TrainConfig, parent: &Path) -> bool {
    let settings = |config: &TrainConfig| {
        let TrainConfig { seed, model, task, data, reward, rollout, evaluation, .. } = config.clone();
        let sampling = (evaluation.problems, evaluation.samples, evaluation.temperature, rollout.max_new_tokens);
        let sampling = (sampling, evaluation.benchmarks);
        (seed, model, task, data, reward, sampling)
    };
    TrainConfig::load(Some(&parent.join("config.toml")), &[]).is_ok_and(|parent| settings(&parent) == settings(config))
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
