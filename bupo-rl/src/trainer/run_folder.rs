//! The folder of a run.

use std::fs;
use std::path::{Path, PathBuf};

use bupo_models::adapter::write_adapter;
use bupo_models::decoder::NamedTensor;
use bupo_models::{Adapter, ModelAssets, ModelError, SaveOptions, save_tensors};
use bupo_runs::{CheckpointStore, EventWriter, JsonLinesWriter, RunLock, RunState, Status, write_atomically};
use serde::Serialize;
use serde_json::Value;

use super::evaluations::EvaluationLine;
use super::metrics::StepMetrics;
use super::probe_states::FILE as PROBE_STATES;
use crate::RlError;

/// Settings, state, metrics, completions, checkpoints and the trained model of one run. A lock keeps other runs from training in
/// it while it is open.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Progress and status of the run.
    pub state: RunState,
    /// `None` where another process writes the folder.
    logs: Option<Logs>,
}

/// The open files of a run.
#[derive(Debug)]
struct Logs {
    metrics: JsonLinesWriter,
    completions: JsonLinesWriter,
    probe: JsonLinesWriter,
    /// What was sampled, from the first step on that keeps it.
    rollouts: Option<JsonLinesWriter>,
    evaluations: Option<JsonLinesWriter>,
    events: EventWriter,
    _lock: RunLock,
}

/// The logs that are truncated to a checkpoint's step when a run resumes from it.
const LOGS: [&str; 3] = ["metrics.jsonl", "completions.jsonl", "probe.jsonl"];
/// A further such log in a run's folder: what was sampled, if the run keeps it.
pub const ROLLOUTS: &str = "rollouts.jsonl";
/// A further such log in a run's folder, from its first evaluation on.
const EVALUATIONS: &str = "evaluations.jsonl";
const EVENTS: &str = "tensorboard";

impl RunFolder {
    /// The folder of a run that another process writes: here nothing is written.
    pub fn of_another_process(path: &Path, steps: usize) -> Self {
        Self { path: path.to_path_buf(), state: RunState::running(steps), logs: None }
    }

    /// Creates the folder and writes the resolved settings into it, so that write errors show before training.
    ///
    /// # Errors
    /// If the folder exists and is not empty, or cannot be written.
    pub fn create(path: &Path, config_toml: &str, steps: usize) -> Result<Self, RlError> {
        make_empty_folder(path)?;
        let lock = RunLock::acquire(path)?;
        write_atomically(&path.join("config.toml"), config_toml.as_bytes())?;
        for log in LOGS {
            JsonLinesWriter::create(&path.join(log))?;
        }
        fs::create_dir(path.join(EVENTS)).map_err(RlError::io("create", path))?;
        Self::open(path, lock, None, steps, EventWriter::create(&path.join(EVENTS))?)
    }

    /// Creates a folder whose logs begin with the first `step` steps of another run.
    ///
    /// # Errors
    /// As [`Self::create`], and if the other run's logs cannot be read.
    pub fn fork(path: &Path, from: &Path, config_toml: &str, step: usize, steps: usize) -> Result<Self, RlError> {
        make_empty_folder(path)?;
        let lock = RunLock::acquire(path)?;
        write_atomically(&path.join("config.toml"), config_toml.as_bytes())?;
        let further = [ROLLOUTS, EVALUATIONS, PROBE_STATES].into_iter().filter(|log| from.join(log).exists());
        for log in LOGS.into_iter().chain(further) {
            fs::copy(from.join(log), path.join(log)).map_err(RlError::io("read", &from.join(log)))?;
        }
        fs::create_dir(path.join(EVENTS)).map_err(RlError::io("create", path))?;
        Self::open(path, lock, Some(step), steps, EventWriter::create(&path.join(EVENTS))?)
    }

    /// Opens a run's folder to resume after `step`, or from the beginning. Log lines of later steps are removed, since those
    /// steps are repeated.
    ///
    /// # Errors
    /// If another process trains there, or the folder cannot be read or written.
    pub fn resume(
        path: &Path,
        lock: RunLock,
        config_toml: &str,
        step: Option<usize>,
        steps: usize,
    ) -> Result<Self, RlError> {
        write_atomically(&path.join("config.toml"), config_toml.as_bytes())?;
        // A process that was killed at its start may not have created all logs.
        for log in LOGS.iter().map(|log| path.join(log)).filter(|log| !log.exists()) {
            JsonLinesWriter::create(&log)?;
        }
        fs::create_dir_all(path.join(EVENTS)).map_err(RlError::io("create", path))?;
        let events = EventWriter::resume(&path.join(EVENTS), step.map_or(0, |step| step + 1))?;
        Self::open(path, lock, step, steps, events)
    }

    /// Overwrites the run's settings.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn settings(&self, config_toml: &str) -> Result<(), RlError> {
        if self.logs.is_none() {
            return Ok(());
        }
        Ok(write_atomically(&self.path().join("config.toml"), config_toml.as_bytes())?)
    }

    fn open(
        path: &Path,
        lock: RunLock,
        step: Option<usize>,
        steps: usize,
        events: EventWriter,
    ) -> Result<Self, RlError> {
        let done = |line: &Value| step.is_some_and(|step| line["step"].as_u64().is_some_and(|s| s <= step as u64));
        let cut = |log: &str| JsonLinesWriter::resume(&path.join(log), done);
        let [metrics, completions, probe] = LOGS.map(cut);
        let further = |log: &str| path.join(log).exists().then(|| cut(log)).transpose();
        let (rollouts, evaluations) = (further(ROLLOUTS)?, further(EVALUATIONS)?);
        let mut state = RunState::running(steps);
        state.step = step.unwrap_or(0);
        state.save(path)?;
        let (metrics, completions, probe) = (metrics?, completions?, probe?);
        let logs = Logs { metrics, completions, probe, rollouts, evaluations, events, _lock: lock };
        Ok(Self { path: path.to_path_buf(), state, logs: Some(logs) })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its checkpoints.
    pub fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(&self.path)
    }

    /// Appends a step's metrics to the log and to the TensorBoard events.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn metrics(&mut self, metrics: &StepMetrics) -> Result<(), RlError> {
        let Some(logs) = &mut self.logs else { return Ok(()) };
        let line = serde_json::to_value(metrics).map_err(|error| RlError::io("write", &self.path)(error.into()))?;
        logs.metrics.append(&line)?;
        for (name, value) in line.as_object().into_iter().flatten().filter(|(name, _)| *name != "step") {
            scalars(&mut logs.events, &format!("train/{name}"), metrics.step, value);
        }
        Ok(logs.events.flush()?)
    }

    /// Appends an evaluation to its log, and its mean and each of several benchmarks to the TensorBoard events.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn evaluated(&mut self, line: &EvaluationLine) -> Result<(), RlError> {
        let Some(logs) = &mut self.logs else { return Ok(()) };
        let log = match &mut logs.evaluations {
            Some(log) => log,
            none => none.insert(JsonLinesWriter::create(&self.path.join(EVALUATIONS))?),
        };
        log.append(line)?;
        let of_each = line.benchmarks.iter().filter(|_| line.benchmarks.len() > 1);
        let of_each = of_each.map(|result| (format!("evaluation/{}", result.benchmark), &result.evaluation));
        for (tag, evaluation) in [("evaluation".to_string(), &line.mean)].into_iter().chain(of_each) {
            let scalars = [
                ("avg_at_k", Some(evaluation.avg_at_k)),
                ("pass_at_k", Some(evaluation.pass_at_k)),
                ("maj_at_k", evaluation.maj_at_k),
            ];
            for (name, value) in scalars.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                logs.events.scalar(&format!("{tag}/{name}"), line.step, value);
            }
        }
        Ok(logs.events.flush()?)
    }

    /// Appends a completion.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn completion(&mut self, completion: &impl Serialize) -> Result<(), RlError> {
        let Some(logs) = &mut self.logs else { return Ok(()) };
        Ok(logs.completions.append(completion)?)
    }

    /// Appends a response to the log of what was sampled; creates the log with the first one.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn rollout(&mut self, rollout: &impl Serialize) -> Result<(), RlError> {
        let Some(logs) = &mut self.logs else { return Ok(()) };
        let log = match &mut logs.rollouts {
            Some(log) => log,
            none => none.insert(JsonLinesWriter::create(&self.path.join(ROLLOUTS))?),
        };
        Ok(log.append(rollout)?)
    }

    /// Appends a measurement of the internal policies.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn probe(&mut self, line: &impl Serialize) -> Result<(), RlError> {
        let Some(logs) = &mut self.logs else { return Ok(()) };
        Ok(logs.probe.append(line)?)
    }

    /// Flushes the logs to disk; a checkpoint relies on them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn sync(&self) -> Result<(), RlError> {
        let Some(logs) = &self.logs else { return Ok(()) };
        for log in
            [&logs.metrics, &logs.completions, &logs.probe].into_iter().chain(&logs.rollouts).chain(&logs.evaluations)
        {
            log.sync()?;
        }
        Ok(())
    }

    /// Writes the run's progress.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_state(&mut self) -> Result<(), RlError> {
        if self.logs.is_none() {
            return Ok(());
        }
        Ok(self.state.save(&self.path)?)
    }

    /// Writes how the run ended. Errors are ignored: a full disk has been reported before.
    pub fn end(&mut self, status: Status) {
        self.state.status = status;
        self.save_state().ok();
    }

    /// Writes the evaluations before and after training.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn evaluations(&self, evaluations: &impl Serialize) -> Result<(), RlError> {
        self.json("evaluation.json", evaluations)
    }

    /// Writes which layer was chosen for phases with `layer = "auto"`, and why.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn boundary(&self, boundary: &impl Serialize) -> Result<(), RlError> {
        self.json("boundary.json", boundary)
    }

    /// Saves the batch of a skipped update for inspection.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn skipped(&self, step: usize, update: usize, batch: &Value) -> Result<(), RlError> {
        if self.logs.is_none() {
            return Ok(());
        }
        let folder = self.path.join("skipped");
        if !folder.exists() {
            fs::create_dir(&folder).map_err(RlError::io("create", &folder))?;
        }
        self.json(&format!("skipped/step-{step}-update-{update}.json"), batch)
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<(), RlError> {
        if self.logs.is_none() {
            return Ok(());
        }
        let path = self.path.join(name);
        let text = serde_json::to_string_pretty(value).map_err(|error| RlError::io("write", &path)(error.into()))?;
        Ok(write_atomically(&path, format!("{text}\n").as_bytes())?)
    }

    /// Saves the trained model's parameters as a Hugging Face folder, replacing an earlier one.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn model(
        &self,
        weights: Vec<NamedTensor>,
        assets: &ModelAssets,
        options: SaveOptions,
    ) -> Result<PathBuf, RlError> {
        self.replace("model", |fresh| save_tensors(fresh, weights, assets, options))
    }

    /// Saves the trained adapter as a folder that PEFT loads, replacing an earlier one. `base`: the model it belongs to.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn adapter(&self, adapter: &Adapter, base: Option<&str>) -> Result<PathBuf, RlError> {
        self.replace("adapter", |fresh| write_adapter(fresh, adapter, base))
    }

    /// Replaces a folder by one that `write` fills.
    fn replace(&self, name: &str, write: impl FnOnce(&Path) -> Result<(), ModelError>) -> Result<PathBuf, RlError> {
        let (folder, fresh) = (self.path.join(name), self.path.join(format!(".{name}")));
        // Left by a process that was killed while saving.
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(RlError::io("write", &fresh))?;
        }
        // `write` would create a run folder that was moved away.
        fs::create_dir(&fresh).map_err(RlError::io("create", &fresh))?;
        write(&fresh)?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(RlError::io("write", &folder))?;
        }
        fs::rename(&fresh, &folder).map_err(RlError::io("write", &folder))?;
        Ok(folder)
    }
}

/// Adds a number, or those of an object, to the TensorBoard events.
fn scalars(events: &mut EventWriter, tag: &str, step: usize, value: &Value) {
    if let Some(number) = value.as_f64() {
        events.scalar(tag, step, number);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        scalars(events, &format!("{tag}/{name}"), step, value);
    }
}

/// Creates a folder and its parents; an existing folder must be empty.
///
/// # Errors
/// If it is not empty or cannot be created.
pub fn make_empty_folder(path: &Path) -> Result<(), RlError> {
    fs::create_dir_all(path).map_err(RlError::io("create", path))?;
    let mut entries = fs::read_dir(path).map_err(RlError::io("read", path))?;
    if entries.next().is_some() { Err(RlError::FolderExists(path.to_path_buf())) } else { Ok(()) }
}
