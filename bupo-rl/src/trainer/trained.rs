//! What of a model is trained: all, some of its parameters, or an adapter.

use std::collections::BTreeSet;

use bupo_models::adapter::read_adapter;
use bupo_models::decoder::parameter_ids;
use bupo_models::{Adapter, Decoder, LoadedModel, ModelConfig, ModelFiles, TunedLens, load_frozen_model, load_model};
use burn::tensor::backend::Backend;

use crate::RlError;
use crate::config::{Algorithm, TrainConfig};
use crate::random::{Purpose, stream_seed};

/// The adapter of a run before training: that of `adapter`, or a new one; `None` without `[lora]` and `adapter`.
///
/// # Errors
/// If the folder cannot be read, or its settings are not those of `[lora]`.
pub(super) fn initial_adapter(config: &TrainConfig, model: &ModelConfig) -> Result<Option<Adapter>, RlError> {
    let Some(folder) = &config.adapter else {
        let seed = stream_seed(config.seed, Purpose::Adapter, 0);
        return Ok(config.lora.is_on().then(|| Adapter::new(&config.lora, model, seed)));
    };
    let mut adapter = read_adapter(folder, model)?;
    if config.lora.is_on() {
        let (asked, found) = (&config.lora, &adapter.config);
        let names = |modules: Vec<_>| modules.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ");
        let pairs = [
            ("rank", asked.rank.to_string(), found.rank.to_string()),
            ("alpha", asked.alpha.to_string(), found.alpha.to_string()),
            ("rslora", asked.rslora.to_string(), found.rslora.to_string()),
            ("targets", names(asked.targets.modules()), names(found.targets.modules())),
            ("layers", layers(asked, model), layers(found, model)),
        ];
        if let Some((name, asked, found)) = pairs.into_iter().find(|(_, asked, found)| asked != found) {
            return Err(RlError::Config(format!(
                "lora.{name} is {asked}, but the adapter in {} has {found}; set it to that",
                folder.display()
            )));
        }
        adapter.config.dropout = config.lora.dropout;
    }
    Ok(Some(adapter))
}

/// The numbers of the layers that have adapters.
fn layers(config: &bupo_models::AdapterConfig, model: &ModelConfig) -> String {
    let layers = (1..=model.num_hidden_layers).filter(|layer| config.layers.contains(*layer));
    layers.map(|layer| layer.to_string()).collect::<Vec<_>>().join(",")
}

/// Loads the model of a run with its adapter and its tuned lens, and freezes what is not trained.
///
/// # Errors
/// If the model, the adapter or the tuned lens cannot be loaded, or a phase has nothing to train.
pub(super) fn load_for_training<B: Backend>(
    config: &TrainConfig,
    files: &ModelFiles,
    device: &B::Device,
) -> Result<LoadedModel<B>, RlError> {
    let model_config = bupo_models::pretrained::load_config(files)?;
    config.check_trained_in(&model_config)?;
    config.check_critic_in(&model_config)?;
    let adapter = initial_adapter(config, &model_config)?;
    let dtype = config.dtype.for_model::<B>(files, device)?;
    let load = if config.lora.is_on() { load_frozen_model::<B> } else { load_model::<B> };
    let mut model = load(files, device)?;
    let mut decoder = model.decoder.with_compute_dtype(dtype);
    if let Some(adapter) = adapter {
        decoder = decoder.with_adapter(&adapter);
        if !config.lora.is_on() {
            decoder = decoder.merged();
        }
    }
    if let Some(lens) = tuned_lens(config, files, &model_config)? {
        decoder = decoder.with_tuned_lens(&lens);
    }
    model.decoder = freeze(config.optimizer.weights.stored(decoder), config);
    Ok(model)
}

/// The tuned lens of a run; `None` if no policy is read through one.
///
/// # Errors
/// If it cannot be read, does not fit the model, or has no effect.
fn tuned_lens(config: &TrainConfig, files: &ModelFiles, model: &ModelConfig) -> Result<Option<TunedLens>, RlError> {
    if config.has_tuned_norm() {
        return Ok(Some(TunedLens::read(config.tuned_lens.as_deref(), files, model)?));
    }
    // The same settings with algorithm = "grpo" are a comparison, which reads no layer.
    match &config.tuned_lens {
        Some(_) if config.algorithm == Algorithm::Bupo => Err(RlError::Config(
            "tuned_lens has no effect: no phase has norm = \"tuned\"; give it to one, or remove tuned_lens".into(),
        )),
        _ => Ok(None),
    }
}

/// The same decoder with what is not trained frozen.
pub(super) fn freeze<B: Backend>(decoder: Decoder<B>, config: &TrainConfig) -> Decoder<B> {
    let parameters = &config.train.parameters;
    if config.lora.is_on() {
        let ids = decoder.adapter_ids();
        return decoder.train_only(ids);
    }
    if *parameters == Default::default() {
        return decoder;
    }
    let num_layers = decoder.layers.len();
    let ids: BTreeSet<u64> = parameter_ids(&decoder)
        .into_iter()
        .filter(|(name, _)| parameters.has(name, num_layers))
        .map(|(_, id)| id)
        .collect();
    decoder.train_only(ids)
}
