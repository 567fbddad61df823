//! Reading and writing model folders in the layout of Hugging Face.

mod assets;
mod dtype_choice;
mod files;
mod generation_config;
pub mod hub;
mod read;
mod save_dtype;
mod write;

use burn::tensor::backend::Backend;

use crate::families::ModelConfig;
use crate::{Decoder, ModelError};

pub use assets::ModelAssets;
pub use dtype_choice::DtypeChoice;
pub use files::ModelFiles;
pub use generation_config::{RecommendedSampling, load_eos_token_ids, load_recommended_sampling};
pub use read::stored_dtype;
pub(crate) use read::to_f32;
pub use save_dtype::SaveDtype;
pub use write::{SaveOptions, StoredTensor, save_checkpoint, save_tensors, write_safetensors};

/// A decoder with its config and the other files of its folder.
#[derive(Debug)]
pub struct LoadedModel<B: Backend> {
    /// The decoder, with f32 weights, unless they are frozen, and compute dtype f32.
    pub decoder: Decoder<B>,
    /// `config.json`.
    pub config: ModelConfig,
    /// Ids that end a sequence, of `generation_config.json` or else of `config.json`.
    pub eos_token_ids: Vec<u32>,
    /// The files that are saved with the weights.
    pub assets: ModelAssets,
}

/// Loads a model folder's config and weights, converting f32, bf16 or f16 weights to f32.
///
/// # Errors
/// If a file is missing or damaged, the config is not supported, an end-of-sequence id is outside the vocabulary, or
/// weights are missing, surplus, of the wrong shape, of an unsupported dtype, or not finite. Everything except the
/// values is checked before memory is allocated.
pub fn load_model<B: Backend>(files: &ModelFiles, device: &B::Device) -> Result<LoadedModel<B>, ModelError> {
    load(files, device, false)
}

/// [`load_model`] for a model whose weights do not change: matrices that are stored in bf16 stay in bf16 where the device has it.
///
/// # Errors
/// As [`load_model`].
pub fn load_frozen_model<B: Backend>(files: &ModelFiles, device: &B::Device) -> Result<LoadedModel<B>, ModelError> {
    load(files, device, true)
}

fn load<B: Backend>(files: &ModelFiles, device: &B::Device, is_frozen: bool) -> Result<LoadedModel<B>, ModelError> {
    let config = load_config(files)?;
    let eos_token_ids = load_eos_token_ids(files, &config)?;
    let source = read::WeightSource::open(files, device.clone())?;
    let mut source = if is_frozen { source.frozen() } else { source };
    source.check_headers(&config)?;
    source.check_tied(&config)?;
    let decoder = Decoder::build(&config, &mut source)?;
    let assets = ModelAssets::read(files)?.with_dtypes(source.dtypes());
    Ok(LoadedModel { decoder, config, eos_token_ids, assets })
}

/// Reads and checks a model folder's `config.json`.
///
/// # Errors
/// If it is missing or not supported.
pub fn load_config(files: &ModelFiles) -> Result<ModelConfig, ModelError> {
    let name = "config.json";
    ModelConfig::from_json(&files.text(name)?).map_err(|error| {
        // With the folder, of which there may be several.
        let path = files.path(name);
        match error {
            ModelError::Config(reason) => ModelError::Json { path, reason },
            ModelError::Unsupported { what, fix } => {
                ModelError::Json { path, reason: format!("{what} is not supported; {fix}") }
            }
            other => other,
        }
    })
}
