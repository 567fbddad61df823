//! Writing and reading a checkpoint: its weights and state, and by `moments` its moments.

use std::path::Path;

use bupo_collective::Processes;
use bupo_models::decoder::{NamedTensor, named_tensors};
use bupo_models::{Decoder, ModelAssets, ModelFiles, SaveDtype, SaveOptions, load_model, save_tensors};
use bupo_runs::{Checkpoint, PendingCheckpoint};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::moments::{HostMoments, write_moments};
use super::state::TrainerState;
use crate::RlError;

const MODEL: &str = "model";

/// A copy of weights and moments on the host; the device tensors can be freed once it is taken.
pub(crate) struct Snapshot {
    weights: Vec<NamedTensor>,
    moments: HostMoments,
}

impl Snapshot {
    pub(crate) fn take<B: Backend>(decoder: &Decoder<B>, moments: HostMoments) -> Self {
        Self { weights: named_tensors(decoder), moments }
    }

    /// Writes the files of a pending checkpoint.
    pub(crate) fn write(self, pending: &PendingCheckpoint, assets: &ModelAssets) -> Result<(), RlError> {
        // Exact, independent of `save_dtype`.
        let options = SaveOptions { dtype: Some(SaveDtype::F32), ..SaveOptions::default() };
        save_tensors(&pending.path().join(MODEL), self.weights, assets, options)?;
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

/// Reads the weights of a checkpoint's folder in process 0, and gives them to the others, whose decoder they replace.
pub(crate) fn read_model<B: Backend>(
    checkpoint: &Path,
    decoder: Decoder<B>,
    processes: &Processes,
) -> Result<Decoder<B>, RlError> {
    let (device, dtype, stored) = (decoder.device(), decoder.compute_dtype(), decoder.layer_weight_dtype());
    let decoder = if processes.is_first() {
        drop(decoder);
        load_model::<B>(&ModelFiles::folder(&checkpoint.join(MODEL))?, &device)?.decoder.with_compute_dtype(dtype)
    } else {
        decoder
    };
    let decoder = if processes.is_alone() {
        decoder
    } else {
        let mut shared = FromFirst { processes, error: None };
        let decoder = decoder.map(&mut shared);
        shared.error.map_or(Ok(decoder), Err)?
    };
    Ok(decoder.with_layer_weights(stored))
}

/// Replaces every parameter by that of process 0.
struct FromFirst<'a> {
    processes: &'a Processes,
    error: Option<RlError>,
}

impl<B: Backend> ModuleMapper<B> for FromFirst<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if self.error.is_some() {
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
