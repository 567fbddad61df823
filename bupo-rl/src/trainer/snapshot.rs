//! Writing and reading weights, moments and state of a checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bupo_models::decoder::{NamedTensor, named_tensors};
use bupo_models::{Decoder, ModelAssets, ModelFiles, SaveDtype, SaveOptions, load_model, save_tensors};
use bupo_runs::{Checkpoint, PendingCheckpoint};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::state::TrainerState;
use crate::RlError;
use crate::update::Moments;

const MODEL: &str = "model";
const MOMENTS: &str = "optimizer.safetensors";

/// A copy of weights and moments on the host; the device tensors can be freed once it is taken.
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

    /// Writes the files of a pending checkpoint.
    pub(crate) fn write(self, pending: &PendingCheckpoint, assets: &ModelAssets) -> Result<(), RlError> {
        // Exact, independent of `save_dtype`.
        let options = SaveOptions { dtype: Some(SaveDtype::F32), ..SaveOptions::default() };
        save_tensors(&pending.path().join(MODEL), self.weights, assets, options)?;
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

/// Reads the state of a checkpoint.
pub(crate) fn read_state(checkpoint: &Checkpoint) -> Result<TrainerState, RlError> {
    serde_json::from_value(checkpoint.manifest.meta.clone()).map_err(|error| RlError::NoData {
        path: checkpoint.path.clone(),
        reason: format!("the checkpoint's state cannot be read: {error}"),
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
    let io_error = |reason: String| RlError::io("read", &path)(std::io::Error::other(reason));
    let file = SafeTensors::deserialize(&bytes).map_err(|error| io_error(error.to_string()))?;
    let tensor = |id: &u64, name: &str| -> Result<Tensor<B, 1>, RlError> {
        let view = file.tensor(&format!("{id}.{name}")).map_err(|error| io_error(error.to_string()))?;
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
