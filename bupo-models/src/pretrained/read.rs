//! Weights of safetensors files, checked against the config before they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::files::{ModelFiles, ReadSeek};
use super::save_dtype::SaveDtype;
use crate::decoder::ParamSource;
use crate::families::ModelConfig;
use crate::{Decoder, ModelError};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const UNEMBEDDING: &str = "lm_head.weight";
/// The longest header that the safetensors format allows.
const MAX_HEADER: u64 = 100_000_000;

/// The dtype that a model folder's embedding is stored in.
///
/// # Errors
/// If the headers of the weight files cannot be read.
pub fn stored_dtype<B: Backend>(files: &ModelFiles, device: &B::Device) -> Result<SaveDtype, ModelError> {
    let stored = WeightSource::<B>::open(files, device.clone())?.dtypes();
    Ok(stored.get(EMBEDDING).copied().unwrap_or(SaveDtype::F32))
}

/// The tensors of a checkpoint, read one at a time so that loading needs little memory beyond the model.
pub(super) struct WeightSource<B: Backend> {
    place: PathBuf,
    shards: Vec<Shard>,
    /// The shard of each tensor.
    places: BTreeMap<String, usize>,
    device: B::Device,
    /// Whether matrices that are stored in bf16 stay in it.
    keeps_bf16: bool,
}

struct Shard {
    path: PathBuf,
    reader: Box<dyn ReadSeek>,
    metadata: Metadata,
    data_start: u64,
}

impl<B: Backend> WeightSource<B> {
    /// Opens the weight files and checks their headers.
    pub(super) fn open(files: &ModelFiles, device: B::Device) -> Result<Self, ModelError> {
        if files.has(INDEX) && !files.has(SINGLE) {
            return Self::open_sharded(files, device);
        }
        if !files.has(SINGLE) {
            return Err(no_weights(files));
        }
        let shard = Shard::open(files, SINGLE)?;
        let places = shard.metadata.offset_keys().into_iter().map(|name| (name, 0)).collect();
        Ok(Self { place: files.path(SINGLE), shards: vec![shard], places, device, keeps_bf16: false })
    }

    fn open_sharded(files: &ModelFiles, device: B::Device) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let place = files.path(INDEX);
        let index: Index = serde_json::from_str(&files.text(INDEX)?).map_err(ModelError::json(&place))?;
        let wrong = |reason: String| ModelError::Weights { place: place.clone(), reason };
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        let mut shards = Vec::new();
        let mut places = BTreeMap::new();
        for name in names {
            let plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
            if !plain || !name.ends_with(".safetensors") {
                return Err(wrong(format!("shard `{name}` is not the name of a safetensors file in this folder")));
            }
            let shard = Shard::open(files, name)?;
            for tensor in shard.metadata.offset_keys() {
                if index.weight_map.get(&tensor) != Some(name) {
                    return Err(wrong(format!("tensor `{tensor}` is in shard {name}, but the index does not say so")));
                }
                places.insert(tensor, shards.len());
            }
            shards.push(shard);
        }
        if let Some((tensor, shard)) = index.weight_map.iter().find(|(tensor, _)| !places.contains_key(*tensor)) {
            return Err(wrong(format!("tensor `{tensor}` is not in shard {shard}, where the index lists it")));
        }
        Ok(Self { place, shards, places, device, keeps_bf16: false })
    }

    /// The same, with matrices that are stored in bf16 read as they are, if the device has bf16.
    pub(super) fn frozen(self) -> Self {
        Self { keeps_bf16: B::supports_dtype(&self.device, DType::BF16), ..self }
    }

    /// Checks names, shapes and dtypes of all tensors against the config, without reading a value.
    pub(super) fn check_headers(&self, config: &ModelConfig) -> Result<(), ModelError> {
        let mut headers = Headers { source: self, wanted: BTreeSet::new() };
        Decoder::<B>::build(config, &mut headers)?;
        // Older Llama checkpoints store the rotary frequencies, which follow from the config.
        let known = |name: &str| {
            headers.wanted.contains(name)
                || (config.tie_word_embeddings && name == UNEMBEDDING)
                || name.ends_with("rotary_emb.inv_freq")
        };
        match self.places.keys().find(|name| !known(name)) {
            Some(name) => Err(self.wrong(format!(
                "surplus tensor `{name}`: the {} model of {} layers that config.json describes has none of that name; give the \
                 config.json that belongs to these weights",
                config.family, config.num_hidden_layers
            ))),
            None => Ok(()),
        }
    }

    /// Checks that a stored unembedding equals the embedding if the config ties them.
    pub(super) fn check_tied(&mut self, config: &ModelConfig) -> Result<(), ModelError> {
        let shape = [config.vocab_size, config.hidden_size];
        if config.tie_word_embeddings
            && self.places.contains_key(UNEMBEDDING)
            && self.values(UNEMBEDDING, &shape)? != self.values(EMBEDDING, &shape)?
        {
            return Err(self.wrong(format!(
                "`{UNEMBEDDING}` differs from `{EMBEDDING}`, but config.json has tie_word_embeddings = true"
            )));
        }
        Ok(())
    }

    /// The dtype that each tensor is stored in.
    pub(super) fn dtypes(&self) -> BTreeMap<String, SaveDtype> {
        let dtype = |name: &String| match self.info(name)?.dtype {
            Dtype::BF16 => Some(SaveDtype::Bf16),
            Dtype::F16 => Some(SaveDtype::F16),
            _ => Some(SaveDtype::F32),
        };
        self.places.keys().filter_map(|name| Some((name.clone(), dtype(name)?))).collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.places.get(name).and_then(|shard| self.shards[*shard].metadata.info(name))
    }

    fn checked_info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, ModelError> {
        let info = self
            .info(name)
            .ok_or_else(|| self.wrong(format!("tensor `{name}` is missing; give the weights that belong to config.json, by which it has shape {shape:?}")))?;
        if info.shape != shape {
            let reason = format!(
                "tensor `{name}` has shape {:?}, but by config.json it has {shape:?}; give the one that belongs to the other",
                info.shape
            );
            return Err(self.wrong(reason));
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return Err(self.wrong(format!("tensor `{name}` is {}; save the model in F32, BF16 or F16", info.dtype)));
        }
        Ok(info)
    }

    fn wrong(&self, reason: String) -> ModelError {
        ModelError::Weights { place: self.place.clone(), reason }
    }

    fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let info = self.checked_info(name, shape)?;
        let (dtype, (start, end)) = (info.dtype, info.data_offsets);
        let shard = &mut self.shards[self.places[name]];
        let mut bytes = vec![0; end - start];
        let from = SeekFrom::Start(shard.data_start + start as u64);
        let read = shard.reader.seek(from).and_then(|_| shard.reader.read_exact(&mut bytes));
        read.map_err(ModelError::io("read", &shard.path))?;
        let values = to_f32(dtype, &bytes);
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(ModelError::Weights {
                place: shard.path.clone(),
                reason: format!("tensor `{name}` has {} at element {index}; weights must be finite", values[index]),
            }),
            None => Ok(values),
        }
    }
}

impl<B: Backend> ParamSource<B> for WeightSource<B> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<B, D>, ModelError> {
        let stays = D == 2 && self.keeps_bf16 && self.info(name).is_some_and(|info| info.dtype == Dtype::BF16);
        let data = TensorData::new(self.values(name, &shape)?, shape);
        let data = if stays { data.convert::<bf16>() } else { data };
        let dtype = if stays { DType::BF16 } else { DType::F32 };
        Ok(Tensor::from_data(data, (&self.device, dtype)))
    }
}

/// A source that checks the headers and returns a placeholder for every parameter.
struct Headers<'a, B: Backend> {
    source: &'a WeightSource<B>,
    wanted: BTreeSet<String>,
}

impl<B: Backend> ParamSource<B> for Headers<'_, B> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<B, D>, ModelError> {
        self.source.checked_info(name, &shape)?;
        self.wanted.insert(name.to_string());
        Ok(Tensor::zeros([1; D], &self.source.device))
    }
}

impl Shard {
    fn open(files: &ModelFiles, name: &str) -> Result<Self, ModelError> {
        let path = files.path(name);
        let damaged = |reason: String| ModelError::Damaged { path: path.clone(), reason };
        let mut reader = files.open(name)?;
        let size = reader.seek(SeekFrom::End(0)).map_err(ModelError::io("read", &path))?;
        reader.rewind().map_err(ModelError::io("read", &path))?;
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(|_| damaged(format!("it has {size} bytes, too few for a header")))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length + 8 > size {
            files.check_lfs_pointer(name, &files.head(name, 64)?)?;
            return Err(damaged(format!("its header length is {length} bytes, but the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        reader.read_exact(&mut header).map_err(ModelError::io("read", &path))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let (wanted, found) = (metadata.data_len() as u64, size - 8 - length);
        if wanted != found {
            return Err(damaged(format!("its header describes {wanted} bytes of tensors, but the file has {found}")));
        }
        Ok(Self { path, reader, metadata, data_start: 8 + length })
    }
}

/// Values of f32, bf16 or f16 in little-endian bytes.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

fn no_weights(files: &ModelFiles) -> ModelError {
    let others = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "model.pt"];
    let reason = match others.iter().find(|name| files.has(name)) {
        Some(name) => format!(
            "has {name} but no {SINGLE}; pickled weights can run code when they are read: save the model as safetensors"
        ),
        None => format!("has neither {SINGLE} nor {INDEX}"),
    };
    ModelError::NoWeights { folder: files.path(""), reason }
}
