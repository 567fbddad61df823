//! Saving a model as a folder that transformers loads.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::path::Path;

use burn::tensor::TensorData;
use burn::tensor::backend::Backend;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use serde_json::json;

use super::assets::ModelAssets;
use super::files::write;
use super::save_dtype::SaveDtype;
use crate::decoder::{NamedTensor, named_tensors};
use crate::{Decoder, ModelError};

/// How to save.
#[derive(Debug, Clone, Copy)]
pub struct SaveOptions {
    /// The dtype of every tensor; `None` for the one it was loaded from.
    pub dtype: Option<SaveDtype>,
    /// The largest shard in bytes, unless a single tensor is larger.
    pub max_shard_bytes: usize,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { dtype: None, max_shard_bytes: 5_000_000_000 }
    }
}

/// Saves a decoder into `folder`, which is created if it is missing, with the assets of the model it came from.
///
/// # Errors
/// If a file cannot be written.
pub fn save_checkpoint<B: Backend>(
    folder: &Path,
    decoder: &Decoder<B>,
    assets: &ModelAssets,
    options: SaveOptions,
) -> Result<(), ModelError> {
    save_tensors(folder, named_tensors(decoder), assets, options)
}

/// [`save_checkpoint`] for parameters that have been read back to the host.
///
/// # Errors
/// If a file cannot be written.
pub fn save_tensors(
    folder: &Path,
    tensors: Vec<NamedTensor>,
    assets: &ModelAssets,
    options: SaveOptions,
) -> Result<(), ModelError> {
    fs::create_dir_all(folder).map_err(ModelError::io("create", folder))?;
    let dtype = |name: &str| options.dtype.or(assets.dtypes.get(name).copied()).unwrap_or(SaveDtype::F32);
    let tensors = tensors.into_iter().map(|tensor| (dtype(&tensor.name), tensor)).collect();
    write_weights(folder, split(tensors, options.max_shard_bytes))?;
    assets.write(folder, options.dtype)
}

fn write_weights(folder: &Path, shards: Vec<Vec<(SaveDtype, NamedTensor)>>) -> Result<(), ModelError> {
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    let mut total = 0;
    for (index, shard) in shards.into_iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        let stored: Vec<_> =
            shard.into_iter().map(|(dtype, tensor)| StoredTensor::new(tensor.name, &tensor.data, dtype)).collect();
        total += stored.iter().map(|tensor| tensor.bytes.len()).sum::<usize>();
        weight_map.extend(stored.iter().map(|tensor| (tensor.name.clone(), file.clone())));
        write_safetensors(&folder.join(&file), &stored)?;
    }
    if count > 1 {
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        write(folder, "model.safetensors.index.json", format!("{index:#}").as_bytes())?;
    }
    Ok(())
}

fn split(tensors: Vec<(SaveDtype, NamedTensor)>, max_shard_bytes: usize) -> Vec<Vec<(SaveDtype, NamedTensor)>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for (dtype, tensor) in tensors {
        let size = tensor.data.num_elements() * dtype.bytes();
        if filled > 0 && filled + size > max_shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(shard) = shards.last_mut() {
            shard.push((dtype, tensor));
        }
    }
    shards
}

/// Writes tensors as one safetensors file, replacing `path` only once all is written. A symbolic link is followed.
///
/// # Errors
/// If the file cannot be written, or `path` exists and is not a plain file.
pub fn write_safetensors(path: &Path, tensors: &[StoredTensor]) -> Result<(), ModelError> {
    if path.exists() && !path.is_file() {
        let source = std::io::Error::other("it exists and is not a plain file");
        return Err(ModelError::Io { action: "write", path: path.to_path_buf(), source });
    }
    let followed = path.canonicalize();
    let path = followed.as_deref().unwrap_or(path);
    let failed = |error: SafeTensorError| match error {
        SafeTensorError::IoError(source) => ModelError::Io { action: "write", path: path.to_path_buf(), source },
        other => ModelError::Weights { place: path.to_path_buf(), reason: other.to_string() },
    };
    let views = tensors
        .iter()
        .map(|tensor| Ok((&tensor.name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    // transformers refuses a file without the format.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    // safetensors creates the file readable by its owner only; give it the permissions of an ordinary new file.
    let plain = OpenOptions::new().create(true).append(true).open(path).and_then(|file| file.metadata());
    let permissions = plain.map_err(ModelError::io("write", path))?.permissions();
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(failed)?;
    fs::set_permissions(path, permissions).map_err(ModelError::io("write", path))
}

/// A tensor as it is stored.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl StoredTensor {
    /// Converts values to `dtype`.
    pub fn new(name: String, data: &TensorData, dtype: SaveDtype) -> Self {
        let shape = data.shape.to_vec();
        let values = data.iter::<f32>();
        let (dtype, bytes) = match dtype {
            SaveDtype::F32 => (Dtype::F32, values.flat_map(f32::to_le_bytes).collect()),
            SaveDtype::Bf16 => (Dtype::BF16, values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect()),
            SaveDtype::F16 => (Dtype::F16, values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()),
        };
        Self { name, dtype, shape, bytes }
    }
}
