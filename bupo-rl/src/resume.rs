//! Going on from a checkpoint: which settings may differ, and what a checkpoint holds besides the weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bupo_models::decoder::{NamedTensor, named_tensors};
use bupo_models::{Companions, Decoder, ModelFiles, SaveDtype, SaveOptions, load_model, save_tensors};
use bupo_runs::{Checkpoint, Pending};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::RlError;
use crate::config::TrainConfig;
use crate::evaluate::Evaluation;
use crate::optimizer::Moments;
use crate::phase_guard::PhaseGuard;
use crate::probe::Probe;
use crate::schedule::Schedule;
use crate::watch::Origin;

/// Settings that may change when a run goes on; `*` stands for a phase's number. The last three change memory and speed, and
/// responses and updates by rounding.
pub const MAY_CHANGE: [&str; 15] = [
    "save_dtype",
    "phases.*.steps",
    "optimizer.learning_rate",
    "learning_rate_schedule.warmup_steps",
    "learning_rate_schedule.decay",
    "learning_rate_schedule.final_share",
    "evaluation.every",
    "evaluation.patience",
    "checkpoint.every",
    "checkpoint.keep_last",
    "checkpoint.keep_every",
    "guard.phase_guard",
    "rollout.batch",
    "update.max_tokens_per_batch",
    "update.recompute",
];
const MODEL: &str = "model";
const MOMENTS: &str = "optimizer.safetensors";

/// Where a run is: all that is not weights, moments, or a function of the settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Steps done.
    pub(crate) step: usize,
    /// Draws of prompts so far.
    pub(crate) draws: usize,
    /// Responses that scorers failed to grade, in earlier processes.
    pub(crate) grading_failures: usize,
    /// Updates left out in a row.
    pub(crate) skipped_in_row: usize,
    /// The phases, the layers of those that left them open found.
    pub(crate) schedule: Schedule,
    /// Before training.
    pub(crate) before: Option<Evaluation>,
    /// The newest evaluation, and after which step it was.
    pub(crate) newest: Option<(usize, Evaluation)>,
    /// The best one, by Avg@K.
    pub(crate) best: Option<(usize, f64)>,
    /// Evaluations since then.
    pub(crate) without_gain: usize,
    /// What the internal policies are watched on, from the first evaluation on.
    pub(crate) probe: Option<Probe>,
    /// What is measured on how far training has moved the policy, from the first evaluation on.
    pub(crate) origin: Option<Origin>,
    /// What the phase guard has seen of the phase.
    pub(crate) guard: PhaseGuard,
    /// AdamW's steps by parameter.
    pub(crate) optimizer_steps: BTreeMap<u64, usize>,
}

/// The settings a run goes on with: its own with some changes.
///
/// # Errors
/// If its settings cannot be read, or one was changed that must stay.
pub fn resumed_config(run: &Path, pairs: &[String]) -> Result<TrainConfig, RlError> {
    let file = run.join("config.toml");
    let (old, new) = (TrainConfig::load(Some(&file), &[])?, TrainConfig::load(Some(&file), pairs)?);
    let flat = |config: &TrainConfig| -> Result<BTreeMap<String, String>, RlError> {
        let mut all = BTreeMap::new();
        let table = config.to_toml()?.parse::<Table>().map_err(|error| RlError::Config(error.to_string()))?;
        flatten("", &Value::Table(table), &mut all);
        Ok(all)
    };
    let (old, new_flat) = (flat(&old)?, flat(&new)?);
    let changed = old.keys().chain(new_flat.keys()).filter(|key| old.get(*key) != new_flat.get(*key));
    for key in changed {
        if !MAY_CHANGE.iter().any(|allowed| matches(allowed, key)) {
            return Err(RlError::Config(format!(
                "{key} cannot change when a run goes on, only {}; start a new run from its checkpoint with --fork",
                MAY_CHANGE.join(", ")
            )));
        }
    }
    Ok(new)
}

fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| flatten(&below(key), value, all)),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            list.iter().enumerate().for_each(|(index, value)| flatten(&below(&index.to_string()), value, all));
        }
        other => {
            all.insert(path.to_string(), other.to_string());
        }
    }
}

fn matches(allowed: &str, key: &str) -> bool {
    let (allowed, key): (Vec<&str>, Vec<&str>) = (allowed.split('.').collect(), key.split('.').collect());
    allowed.len() == key.len() && allowed.iter().zip(key).all(|(allowed, part)| *allowed == "*" || *allowed == part)
}

/// Weights and moments as they were, on the host: once they are there, the device need not keep them.
pub(crate) struct Snapshot {
    weights: Vec<NamedTensor>,
    moments: Vec<(String, TensorData)>,
}

impl Snapshot {
    pub(crate) fn take<B: Backend>(decoder: &Decoder<B>, moments: &BTreeMap<u64, Moments<B>>) -> Self {
        let moments = moments.iter().flat_map(|(id, moments)| {
            [("first", &moments.first), ("second", &moments.second)]
                .map(|(name, tensor)| (format!("{id}.{name}"), tensor.clone().into_data()))
        });
        Self { weights: named_tensors(decoder), moments: moments.collect() }
    }

    /// Writes them into a checkpoint that is being made.
    pub(crate) fn write(self, pending: &Pending, companions: &Companions) -> Result<(), RlError> {
        // What was trained, to the last bit, whatever dtype the model is saved in at the end.
        let options = SaveOptions { dtype: Some(SaveDtype::F32), ..SaveOptions::default() };
        save_tensors(&pending.path().join(MODEL), self.weights, companions, options)?;
        let path = pending.path().join(MOMENTS);
        let failed = |error: safetensors::SafeTensorError| RlError::io("write", &path)(std::io::Error::other(error));
        let views = self
            .moments
            .iter()
            .map(|(name, data)| Ok((name, TensorView::new(Dtype::F32, data.shape.to_vec(), data.as_bytes())?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        safetensors::serialize_to_file(views, None, &path).map_err(failed)
    }
}

/// Reads where a run was at a checkpoint.
pub(crate) fn read_place(checkpoint: &Checkpoint) -> Result<Place, RlError> {
    serde_json::from_value(checkpoint.manifest.meta.clone()).map_err(|error| RlError::NoData {
        path: checkpoint.path.clone(),
        reason: format!("the checkpoint is not of this program: {error}"),
    })
}

/// Reads the weights of a checkpoint's folder.
pub(crate) fn read_model<B: Backend>(checkpoint: &Path, device: &B::Device) -> Result<Decoder<B>, RlError> {
    Ok(load_model::<B>(&ModelFiles::folder(&checkpoint.join(MODEL))?, device)?.decoder)
}

/// Reads the moments of a checkpoint's folder.
pub(crate) fn read_moments<B: Backend>(
    checkpoint: &Path,
    steps: &BTreeMap<u64, usize>,
    device: &B::Device,
) -> Result<BTreeMap<u64, Moments<B>>, RlError> {
    let path = checkpoint.join(MOMENTS);
    let bytes = fs::read(&path).map_err(RlError::io("read", &path))?;
    let wrong = |reason: String| RlError::io("read", &path)(std::io::Error::other(reason));
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let tensor = |id: &u64, name: &str| -> Result<Tensor<B, 1>, RlError> {
        let view = file.tensor(&format!("{id}.{name}")).map_err(|error| wrong(error.to_string()))?;
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let length = values.len();
        Ok(Tensor::from_data(TensorData::new(values, [length]), device))
    };
    steps
        .iter()
        .map(|(id, steps)| {
            Ok((*id, Moments { first: tensor(id, "first")?, second: tensor(id, "second")?, steps: *steps }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_change_does() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("config.toml"), TrainConfig::default().to_toml()?)?;
        let with = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
            resumed_config(folder.path(), &pairs).map_err(|error| error.to_string())
        };
        let config = with(&["phases.1.steps=99", "optimizer.learning_rate=1e-5", "checkpoint.every=7"])?;
        assert_eq!((config.phases[1].steps, config.checkpoint.every), (99, 7));
        for pair in ["seed=1", "phases.0.site=layer:2", "rollout.prompts=16", "model=other", "optimizer.beta1=0.8"] {
            let error = with(&[pair]).err().unwrap_or_default();
            let key = pair.split('=').next().unwrap_or_default();
            assert!(error.contains(key) && error.contains("--fork"), "{pair}: {error}");
        }
        Ok(())
    }
}
