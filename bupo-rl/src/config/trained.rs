//! `[train]`: which parameters the phases train.

use std::fmt;

use bupo_core::Norm;
use bupo_models::ModelConfig;
use bupo_models::adapter::LayerRanges;
use bupo_models::families::{layer_part_params, num_params};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::train_config::{Algorithm, TrainConfig};
use crate::RlError;
use crate::update::WeightStorage;

/// `[train]` of a settings file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// The parameters that are trained, `"all"` or a table. A phase trains those of them that its policy depends on.
    #[serde(deserialize_with = "all_or_table")]
    pub parameters: TrainedParameters,
}

/// A choice of a model's parameters. The others are frozen: they get no gradient and no moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainedParameters {
    /// The layers.
    pub layers: LayerRanges,
    /// The parts of those layers.
    pub modules: Vec<LayerPart>,
    /// Whether the embedding is trained.
    pub embedding: bool,
    /// Whether the unembedding is trained.
    pub unembedding: bool,
}

/// A part of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerPart {
    /// The projections of the attention.
    Attn,
    /// The projections of the feed-forward.
    Mlp,
    /// The norms, of queries and keys too; of the last layer with the final norm.
    Norm,
}

impl fmt::Display for LayerPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attn => "attn",
            Self::Mlp => "mlp",
            Self::Norm => "norm",
        })
    }
}

impl Default for TrainedParameters {
    fn default() -> Self {
        let modules = vec![LayerPart::Attn, LayerPart::Mlp, LayerPart::Norm];
        Self { layers: LayerRanges::default(), modules, embedding: true, unembedding: true }
    }
}

impl TrainedParameters {
    /// Whether a parameter, by its name in the checkpoint, is one of them in a model of `num_layers` layers.
    pub fn has(&self, name: &str, num_layers: usize) -> bool {
        if let Some(rest) = name.strip_prefix("model.layers.") {
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let part = match rest {
                rest if rest.contains("norm") => LayerPart::Norm,
                rest if rest.starts_with("self_attn") => LayerPart::Attn,
                _ => LayerPart::Mlp,
            };
            return index.parse::<usize>().is_ok_and(|index| self.layers.contains(index + 1))
                && self.modules.contains(&part);
        }
        match name {
            "model.norm.weight" => self.has_final_norm(num_layers),
            "model.embed_tokens.weight" => self.embedding,
            _ => self.unembedding,
        }
    }

    fn has_final_norm(&self, num_layers: usize) -> bool {
        self.modules.contains(&LayerPart::Norm) && self.layers.contains(num_layers)
    }

    /// The number of those that a policy depends on that runs `layers` layers, and the first layer that the backward pass runs.
    fn count(&self, model: &ModelConfig, layers: usize, final_norm: bool) -> (u64, usize) {
        let table = model.vocab_size as u64 * model.hidden_size as u64;
        let tables = if model.tie_word_embeddings {
            u64::from(self.embedding)
        } else {
            u64::from(self.embedding) + u64::from(self.unembedding)
        };
        let parts = [LayerPart::Attn, LayerPart::Mlp, LayerPart::Norm].into_iter().zip(layer_part_params(model));
        let of_layer: u64 = parts.filter(|(part, _)| self.modules.contains(part)).map(|(_, count)| count).sum();
        let trained: Vec<usize> = (1..=layers).filter(|layer| of_layer > 0 && self.layers.contains(*layer)).collect();
        let norm =
            if final_norm && self.has_final_norm(model.num_hidden_layers) { model.hidden_size as u64 } else { 0 };
        let lowest = if self.embedding { 1 } else { trained.first().copied().unwrap_or(layers + 1) };
        (tables * table + trained.len() as u64 * of_layer + norm, lowest)
    }
}

impl TrainConfig {
    /// The number of parameters trained by a policy that runs `layers` layers, with or without the final norm, and the first layer,
    /// from 1, that its backward pass runs.
    pub(crate) fn trained_params(&self, model: &ModelConfig, layers: usize, final_norm: bool) -> (u64, usize) {
        if !self.lora.is_on() {
            return self.train.parameters.count(model, layers, final_norm);
        }
        let lowest = (1..=layers).find(|layer| self.lora.layers.contains(*layer));
        (self.lora.num_params(model, layers), lowest.unwrap_or(layers + 1))
    }

    /// What is trained, for a person; `None` if it is all that a policy depends on.
    pub fn trained_text(&self) -> Option<String> {
        let of = |layers: &LayerRanges| if layers.is_all() { "all layers".into() } else { format!("layers {layers}") };
        if self.lora.is_on() {
            let modules: Vec<&str> = self.lora.targets.modules().iter().map(|module| module.name()).collect();
            let (rank, layers) = (self.lora.rank, of(&self.lora.layers));
            return Some(format!("adapters of rank {rank} on {} of {layers}", modules.join(", ")));
        }
        let parameters = &self.train.parameters;
        if *parameters == TrainedParameters::default() {
            return None;
        }
        let mut parts: Vec<String> = Vec::new();
        if !parameters.modules.is_empty() {
            let modules: Vec<String> = parameters.modules.iter().map(ToString::to_string).collect();
            parts.push(format!("{} of {}", modules.join(", "), of(&parameters.layers)));
        }
        parts.extend(parameters.embedding.then(|| "the embedding".to_string()));
        parts.extend(parameters.unembedding.then(|| "the unembedding".to_string()));
        Some(parts.join(", "))
    }

    /// Whether a policy is read through a tuned lens.
    pub(crate) fn has_tuned_norm(&self) -> bool {
        let is_tuned = |norm| norm == Norm::Tuned;
        self.algorithm == Algorithm::Bupo
            && self
                .phases
                .iter()
                .any(|phase| is_tuned(phase.norm) || phase.sites.iter().any(|term| is_tuned(term.norm)))
    }

    /// Bytes of the parameters of the model and its tuned lens in f32; frozen matrices are in bf16 if the checkpoint has them so, and
    /// the unembedding then once more in f32, which it is cast to while responses are generated and in updates.
    pub(crate) fn weight_bytes(&self, model: &ModelConfig) -> u64 {
        let map = (model.hidden_size * (model.hidden_size + 1)) as u64;
        let lens = if self.has_tuned_norm() { 4 * model.num_hidden_layers as u64 * map } else { 0 };
        lens + self.model_bytes(model)
    }

    fn model_bytes(&self, model: &ModelConfig) -> u64 {
        if !self.lora.is_on() {
            return 4 * num_params(model);
        }
        let adapter = 4 * self.lora.num_params(model, model.num_hidden_layers);
        match model.is_bf16 {
            true => 2 * num_params(model) + 4 * (model.vocab_size * model.hidden_size) as u64 + adapter,
            false => 4 * num_params(model) + adapter,
        }
    }

    /// Checks what is trained by itself.
    pub(super) fn check_trained(&self) -> Result<(), RlError> {
        self.lora.check().map_err(RlError::Config)?;
        if self.lora.is_on() && self.optimizer.weights == WeightStorage::Stochastic {
            return Err(RlError::Config(
                "optimizer.weights is \"stochastic\", but the matrices of a model with [lora] are frozen, in the dtype of the checkpoint; \
                 leave it out"
                    .into(),
            ));
        }
        let parameters = &self.train.parameters;
        if self.lora.is_on() && *parameters != TrainedParameters::default() {
            return Err(RlError::Config(
                "train.parameters has no effect with [lora], which trains the adapter alone; choose by lora.layers and lora.targets".into(),
            ));
        }
        if parameters.modules.is_empty() && !parameters.embedding && !parameters.unembedding {
            return Err(RlError::Config(
                "train.parameters names nothing to train; name modules, such as \"attn\"".into(),
            ));
        }
        Ok(())
    }

    /// Checks what is trained against a model: the layers are in it, and every phase has something to train.
    ///
    /// # Errors
    /// If not, or if the model ties embedding and unembedding and one of them alone is trained.
    pub(crate) fn check_trained_in(&self, model: &ModelConfig) -> Result<(), RlError> {
        let layers = model.num_hidden_layers;
        self.lora.check_model(layers).map_err(RlError::Config)?;
        let parameters = &self.train.parameters;
        if let Some(highest) = parameters.layers.highest().filter(|highest| *highest > layers) {
            let text = format!("train.parameters.layers names layer {highest}; the model has layers 1 to {layers}");
            return Err(RlError::Config(text));
        }
        if model.tie_word_embeddings && parameters.embedding != parameters.unembedding {
            return Err(RlError::Config(
                "the model's embedding and unembedding are one matrix; set train.parameters.embedding and unembedding to the same".into(),
            ));
        }
        let schedule = self.schedule(layers)?;
        for (index, phase) in schedule.phases().iter().enumerate().filter(|(_, phase)| phase.steps > 0) {
            let depth = phase.site.depth(layers)?;
            let (trained, lowest) = self.trained_params(model, depth, phase.has_final_norm());
            if let Some(term) = phase.sites.iter().find(|term| term.layer().is_some_and(|layer| layer + 1 < lowest)) {
                return Err(RlError::Config(format!(
                    "phase {} has the further site {}, which depends on no layer that is trained: the lowest is {lowest}; name a higher one",
                    index + 1,
                    term.site
                )));
            }
            if trained == 0 {
                let setting = if self.lora.is_on() { "lora.layers" } else { "train.parameters" };
                return Err(RlError::Config(format!(
                    "phase {} trains {}, which depends on no parameter that {setting} leaves to train; name others, or another site",
                    index + 1,
                    phase.site
                )));
            }
        }
        Ok(())
    }
}

fn all_or_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TrainedParameters, D::Error> {
    struct AllOrTable;

    impl<'de> Visitor<'de> for AllOrTable {
        type Value = TrainedParameters;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"all\", or a table with layers, modules, embedding and unembedding")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<TrainedParameters, E> {
            if text == "all" {
                Ok(TrainedParameters::default())
            } else {
                Err(E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TrainedParameters, A::Error> {
            TrainedParameters::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(AllOrTable)
}
