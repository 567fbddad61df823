//! Models as the command line names them.

use std::path::Path;

use bupo_core::{Norm, PolicySite};
use bupo_models::adapter::read_adapter;
use bupo_models::pretrained::hub::{HubId, HubSettings, Wanted, fetch};
use bupo_models::pretrained::load_config;
use bupo_models::{
    Adapter, Decoder, DtypeChoice, LoadedModel, ModelConfig, ModelError, ModelFiles, TunedLens, load_model,
};
use burn::tensor::backend::Backend;

use crate::args::{AdapterArgs, NormArgs};
use crate::embedded::EMBEDDED;
use crate::error::CliError;
use crate::screen::FetchScreen;

/// The files of a model folder, of a Hub model (`wanted` files are downloaded), or of the embedded model.
///
/// # Errors
/// If there is no such folder or Hub model, or the download fails.
pub fn model_files(model: Option<&str>, wanted: Wanted) -> Result<ModelFiles, CliError> {
    let Some(model) = model else { return Ok(EMBEDDED) };
    let folder = Path::new(model);
    if folder.exists() {
        return Ok(ModelFiles::folder(folder)?);
    }
    let Ok(id) = model.parse::<HubId>() else { return Ok(ModelFiles::folder(folder)?) };
    let settings = HubSettings::from_env().map_err(ModelError::from)?;
    let fetched = fetch(&id, wanted, &settings, &mut FetchScreen::default()).map_err(ModelError::from)?;
    Ok(ModelFiles::folder(&fetched)?)
}

/// The adapter of `--adapter`, if it is given, checked against the model.
///
/// # Errors
/// If it cannot be read, or does not fit the model.
pub fn model_adapter(folder: Option<&Path>, files: &ModelFiles) -> Result<Option<Adapter>, CliError> {
    folder.map(|folder| Ok(read_adapter(folder, &load_config(files)?)?)).transpose()
}

/// What is used with a model beside its own files.
#[derive(Default)]
pub struct Attached {
    pub adapter: Option<Adapter>,
    pub tuned_lens: Option<TunedLens>,
}

impl Attached {
    /// The adapter in `adapter`, and the tuned lens if one of `sites` is read through it.
    ///
    /// # Errors
    /// If one cannot be read or does not fit the model, or a tuned lens is given or named that has no effect.
    pub fn open(
        adapter: &AdapterArgs,
        norm: &NormArgs,
        sites: &[PolicySite],
        files: &ModelFiles,
    ) -> Result<Self, CliError> {
        let adapter = model_adapter(adapter.adapter.as_deref(), files)?;
        let is_read = sites.iter().any(|site| norm.norm.of_site(*site) == Norm::Tuned);
        if !is_read && (norm.tuned_lens.is_some() || norm.norm == Norm::Tuned) {
            let text = "a tuned lens has no effect here: it needs --norm tuned, and a layer's policy, such as layer:3";
            return Err(CliError::Message(text.into()));
        }
        let file = norm.tuned_lens.as_deref();
        let read = || -> Result<TunedLens, CliError> { Ok(TunedLens::read(file, files, &load_config(files)?)?) };
        Ok(Self { adapter, tuned_lens: if is_read { Some(read()?) } else { None } })
    }

    pub fn attach<B: Backend>(&self, decoder: Decoder<B>) -> Decoder<B> {
        let decoder = match &self.adapter {
            Some(adapter) => decoder.with_adapter(adapter),
            None => decoder,
        };
        match &self.tuned_lens {
            Some(lens) => decoder.with_tuned_lens(lens),
            None => decoder,
        }
    }
}

/// What pages call a model: the last part of a folder's path, a Hub id as it is.
pub fn model_title(name: &str) -> String {
    let path = Path::new(name);
    // A path such as `.` has no last part of its own.
    let whole = path.canonicalize().ok();
    let last = whole.as_ref().and_then(|whole| path.file_name().or(whole.file_name()));
    last.map_or_else(|| name.to_string(), |last| last.to_string_lossy().into_owned())
}

/// Warns of sequences that are longer than the model supports.
pub fn warn_of_positions(config: &ModelConfig, tokens: usize) {
    if let Some(warning) = position_warning(config, tokens) {
        eprintln!("warning: {warning}");
    }
}

/// The text of the warning, if sequences of `tokens` tokens are longer than the model supports.
pub fn position_warning(config: &ModelConfig, tokens: usize) -> Option<String> {
    let limit = config.max_position_embeddings.filter(|limit| tokens > *limit)?;
    Some(format!(
        "sequences can have {tokens} tokens, but the model supports {limit} (max_position_embeddings); longer ones give unreliable \
         results"
    ))
}

/// Loads a model and what is attached to it for inference: the layers' weights are kept only in the compute dtype.
///
/// # Errors
/// If the model cannot be loaded, or the device does not support the dtype.
pub fn load_for_inference<B: Backend>(
    files: &ModelFiles,
    attached: &Attached,
    dtype: DtypeChoice,
    device: &B::Device,
) -> Result<LoadedModel<B>, CliError> {
    let dtype = dtype.for_model::<B>(files, device)?;
    let model = load_model::<B>(files, device)?;
    let decoder = attached.attach(model.decoder.with_compute_dtype(dtype).cast_weights());
    Ok(LoadedModel { decoder, ..model })
}
