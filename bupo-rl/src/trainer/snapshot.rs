//! Writing and reading a checkpoint: its weights and state, and by `moments` its moments.

use std::collections::BTreeSet;
use std::path::Path;

use bupo_collective::Processes;
use bupo_models::adapter::{read_adapter, write_adapter};
use bupo_models::decoder::{NamedTensor, named_tensors, parameter_ids};
use bupo_models::pretrained::load_config;
use bupo_models::{
    Adapter, AdapterConfig, Decoder, ModelAssets, ModelConfig, ModelFiles, SaveDtype, SaveOptions, load_model,
    save_tensors,
};
use bupo_runs::{Checkpoint, PendingCheckpoint};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::critic::{HostCritic, write_critic};
use super::moments::{HostMoments, write_moments};
use super::state::TrainerState;
use super::trained::freeze;
use crate::RlError;
use crate::config::TrainConfig;

const MODEL: &str = "model";
const ADAPTER: &str = "adapter";

/// A copy of weights, moments and a critic on the host; the device tensors can be freed once it is taken.
pub(crate) struct Snapshot {
    weights: Weights,
    moments: HostMoments,
    critic: Option<HostCritic>,
}

/// What training changes.
enum Weights {
    Model(Vec<NamedTensor>),
    Adapter(Adapter),
}

impl Snapshot {
    /// `adapter`: the settings of the run's adapter, which is kept alone.
    pub(crate) fn take<B: Backend>(
        decoder: &Decoder<B>,
        adapter: &AdapterConfig,
        moments: HostMoments,
        critic: Option<HostCritic>,
    ) -> Self {
        let weights = if adapter.is_on() {
            Weights::Adapter(Adapter::of(decoder, adapter))
        } else {
            Weights::Model(named_tensors(decoder))
        };
        Self { weights, moments, critic }
    }

    /// Writes the files of a pending checkpoint.
    pub(crate) fn write(self, pending: &PendingCheckpoint, assets: &ModelAssets) -> Result<(), RlError> {
        match self.weights {
            // Exact, independent of `save_dtype`.
            Weights::Model(weights) => {
                let options = SaveOptions { dtype: Some(SaveDtype::F32), ..SaveOptions::default() };
                save_tensors(&pending.path().join(MODEL), weights, assets, options)?;
            }
            Weights::Adapter(adapter) => write_adapter(&pending.path().join(ADAPTER), &adapter, None)?,
        }
        if let Some(critic) = &self.critic {
            write_critic(pending.path(), critic)?;
        }
        write_moments(pending.path(), &self.moments)
    }
}

/// Reads the state of a checkpoint.
pub(crate) fn read_state(checkpoint: &Checkpoint) -> Result<TrainerState, RlError> {
    serde_json::from_value(checkpoint.manifest.meta.clone()).map_err(|error| RlError::NoData {
        path: checkpoint.path.clone(),
        reason: format!("the checkpoint's state cannot be read: {error}"),
    })
}

/// Checks that a checkpoint is of what a run trains.
pub(crate) fn check(checkpoint: &Path, config: &TrainConfig, model: &ModelConfig) -> Result<(), RlError> {
    let wrong = |reason: &str| RlError::NoData { path: checkpoint.to_path_buf(), reason: reason.into() };
    if config.lora.is_on() {
        if !checkpoint.join(ADAPTER).is_dir() {
            return Err(wrong(
                "the checkpoint is of a whole model, not of an adapter; give its model/ as --model, without --fork",
            ));
        }
        let saved = read_adapter(&checkpoint.join(ADAPTER), model)?.config;
        let targets = |config: &AdapterConfig| (config.rank, config.targets.modules(), config.rslora, config.alpha);
        if targets(&saved) != targets(&config.lora) {
            return Err(wrong("the checkpoint's adapter has other settings than [lora]; set them to those of its run"));
        }
        return Ok(());
    }
    if !checkpoint.join(MODEL).is_dir() {
        return Err(wrong(
            "the checkpoint is of an adapter; keep the settings of its [lora], or merge it (bupo merge)",
        ));
    }
    let saved = load_config(&ModelFiles::folder(&checkpoint.join(MODEL))?)?;
    // The dtype is that of the files.
    if (ModelConfig { is_bf16: model.is_bf16, ..saved }) != *model {
        return Err(wrong(
            "the checkpoint is of a model with another config.json; give the model that the run was started with",
        ));
    }
    Ok(())
}

/// Reads the weights of a checkpoint's folder in process 0, and gives them to the others, whose decoder they replace. The tuned lens
/// stays.
pub(crate) fn read_model<B: Backend>(
    checkpoint: &Path,
    decoder: Decoder<B>,
    config: &TrainConfig,
    model: &ModelConfig,
    processes: &Processes,
) -> Result<Decoder<B>, RlError> {
    let (device, dtype, stored) = (decoder.device(), decoder.compute_dtype(), decoder.layer_weight_dtype());
    let is_adapter = config.lora.is_on();
    let lens = decoder.tuned_lens();
    let decoder = if is_adapter && processes.is_first() {
        let saved = read_adapter(&checkpoint.join(ADAPTER), model)?;
        decoder.with_adapter(&Adapter { config: config.lora.clone(), ..saved })
    } else if processes.is_first() {
        drop(decoder);
        load_model::<B>(&ModelFiles::folder(&checkpoint.join(MODEL))?, &device)?.decoder.with_compute_dtype(dtype)
    } else {
        decoder
    };
    let decoder = freeze(decoder, config);
    let decoder = if processes.is_alone() {
        decoder
    } else {
        let only = if is_adapter { decoder.adapter_ids() } else { parameter_ids(&decoder).into_values().collect() };
        let mut shared = FromFirst { processes, only, error: None };
        let decoder = decoder.map(&mut shared);
        shared.error.map_or(Ok(decoder), Err)?
    };
    let decoder = decoder.with_layer_weights(stored);
    Ok(match lens {
        Some(lens) => decoder.with_tuned_lens(&lens),
        None => decoder,
    })
}

/// Replaces the parameters of these ids by those of process 0.
struct FromFirst<'a> {
    processes: &'a Processes,
    only: BTreeSet<u64>,
    error: Option<RlError>,
}

impl<B: Backend> ModuleMapper<B> for FromFirst<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if self.error.is_some() || !self.only.contains(&param.id.val()) {
            return param;
        }
        let values = param.val();
        let (shape, device) = (values.shape(), values.device());
        let numbers = self.processes.numbers_from_first(shape.num_elements(), || {
            Ok::<_, RlError>(values.clone().into_data().iter::<f32>().collect())
        });
        match numbers {
            Ok(_) if self.processes.is_first() => param,
            Ok(numbers) => param.map(|_| Tensor::from_data(TensorData::new(numbers, shape), &device)),
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}
