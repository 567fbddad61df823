//! Model folders as Hugging Face lays them out, in and out.

mod assets;
mod files;
pub mod hub;
mod read;
mod write;

use serde::Deserialize;

use burn::tensor::backend::Backend;

use crate::families::{ModelConfig, OneOrMany};
use crate::{Decoder, ModelError};

pub use assets::ModelAssets;
pub use files::ModelFiles;
pub use write::{SaveDtype, SaveOptions, StoredTensor, save_checkpoint, save_tensors, write_safetensors};

/// A decoder with the config it was built from and the ids that end a sequence.
#[derive(Debug)]
pub struct LoadedModel<B: Backend> {
    /// The weights, in f32, computing in f32.
    pub decoder: Decoder<B>,
    /// What `config.json` says.
    pub config: ModelConfig,
    /// From `generation_config.json`, or else from `config.json`.
    pub eos_token_ids: Vec<u32>,
    /// What is saved with the weights.
    pub assets: ModelAssets,
}

/// Loads a model folder's config and weights, converting f32, bf16 or f16 weights to f32.
///
/// # Errors
/// If a file is missing or damaged, the config is not supported, or weights are missing, surplus, of another shape
/// than the config says, of another dtype, or not finite. Everything but the values is checked before memory is taken.
pub fn load_model<B: Backend>(files: &ModelFiles, device: &B::Device) -> Result<LoadedModel<B>, ModelError> {
    let config = load_config(files)?;
    let mut source = read::WeightSource::open(files, device.clone())?;
    source.check_headers(&config)?;
    source.check_tied(&config)?;
    let decoder = Decoder::build(&config, &mut source)?;
    let eos_token_ids = load_eos_token_ids(files, &config)?;
    let assets = ModelAssets::read(files)?.with_dtypes(source.dtypes());
    Ok(LoadedModel { decoder, config, eos_token_ids, assets })
}

/// The dtype that a model folder's weights are stored in: the embedding's, where they are mixed.
///
/// # Errors
/// As [`load_model`], of the weight files' headers.
pub fn stored_dtype<B: Backend>(files: &ModelFiles, device: &B::Device) -> Result<SaveDtype, ModelError> {
    let stored = read::WeightSource::<B>::open(files, device.clone())?.dtypes();
    Ok(stored.get(read::EMBEDDING).copied().unwrap_or(SaveDtype::F32))
}

/// Reads and checks a model folder's `config.json`.
///
/// # Errors
/// If there is none, or it is not supported.
pub fn load_config(files: &ModelFiles) -> Result<ModelConfig, ModelError> {
    ModelConfig::from_json(&files.text("config.json")?)
}

/// The ids that end a sequence: those of `generation_config.json`, or else of `config.json`.
///
/// # Errors
/// If the former is there and cannot be read.
pub fn load_eos_token_ids(files: &ModelFiles, config: &ModelConfig) -> Result<Vec<u32>, ModelError> {
    Ok(generation_eos(files)?.unwrap_or_else(|| config.eos_token_ids.clone()))
}

fn generation_eos(files: &ModelFiles) -> Result<Option<Vec<u32>>, ModelError> {
    #[derive(Deserialize)]
    struct GenerationConfig {
        eos_token_id: Option<OneOrMany>,
    }
    let name = "generation_config.json";
    if !files.has(name) {
        return Ok(None);
    }
    let config: GenerationConfig =
        serde_json::from_str(&files.text(name)?).map_err(ModelError::json(&files.path(name)))?;
    Ok(config.eos_token_id.map(Vec::from))
}
