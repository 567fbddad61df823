//! The settings of an adapter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::LayerRanges;
use crate::ModelConfig;

/// A linear map of a layer that can have an adapter, named as in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The names say all.
pub enum ModuleName {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
}

impl ModuleName {
    /// All of them, in the checkpoint's order.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// As in the checkpoint: `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
        }
    }

    /// The half of the layer that it is in: `self_attn` or `mlp`.
    pub(super) fn half(self) -> &'static str {
        match self {
            Self::QProj | Self::KProj | Self::VProj | Self::OProj => "self_attn",
            Self::GateProj | Self::UpProj | Self::DownProj => "mlp",
        }
    }

    /// `[out, in]` of its weight in a model.
    pub fn shape(self, model: &ModelConfig) -> [usize; 2] {
        let (hidden, inner) = (model.hidden_size, model.intermediate_size);
        let [queries, keys] = [model.num_attention_heads, model.num_key_value_heads].map(|n| n * model.head_dim);
        match self {
            Self::QProj => [queries, hidden],
            Self::KProj | Self::VProj => [keys, hidden],
            Self::OProj => [hidden, queries],
            Self::GateProj | Self::UpProj => [inner, hidden],
            Self::DownProj => [hidden, inner],
        }
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ModuleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|module| module.name() == text);
        found.ok_or_else(|| format!("there is no linear map {text}; there are {}", names()))
    }
}

/// The maps of each layer that have adapters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "\"all-linear\", or a list of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj"
)]
pub enum Targets {
    /// All of them.
    All(AllLinear),
    /// These.
    Some(Vec<ModuleName>),
}

/// The name of all maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllLinear {
    /// `all-linear`, as in PEFT.
    #[serde(rename = "all-linear")]
    AllLinear,
}

impl Targets {
    /// All maps.
    pub const ALL_LINEAR: Self = Self::All(AllLinear::AllLinear);

    /// The maps, in the checkpoint's order.
    pub fn modules(&self) -> Vec<ModuleName> {
        match self {
            Self::All(_) => ModuleName::ALL.to_vec(),
            Self::Some(modules) => ModuleName::ALL.into_iter().filter(|module| modules.contains(module)).collect(),
        }
    }
}

/// An adapter's settings, `[lora]` of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterConfig {
    /// The rank of every change; 0: no adapter.
    pub rank: usize,
    /// The changes are multiplied by alpha / rank.
    pub alpha: f64,
    /// The probability with which an input of an adapter is 0 in an update.
    pub dropout: f64,
    /// The maps that have adapters.
    pub targets: Targets,
    /// The layers that have them.
    pub layers: LayerRanges,
    /// Whether changes are multiplied by alpha / sqrt(rank) instead (rsLoRA, arXiv 2312.03732).
    pub rslora: bool,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            rank: 0,
            alpha: 32.0,
            dropout: 0.0,
            targets: Targets::ALL_LINEAR,
            layers: LayerRanges::default(),
            rslora: false,
        }
    }
}

impl AdapterConfig {
    /// Whether there is an adapter.
    pub fn is_on(&self) -> bool {
        self.rank > 0
    }

    /// The factor of a change of this rank.
    pub fn scale(&self, rank: usize) -> f64 {
        let rank = rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// The adapter's parameters in the first `layers` layers of a model.
    pub fn num_params(&self, model: &ModelConfig, layers: usize) -> u64 {
        let of_layer = self.targets.modules().into_iter().map(|module| {
            let [output, input] = module.shape(model);
            self.rank * (output + input)
        });
        let changed = (1..=layers).filter(|layer| self.layers.contains(*layer)).count();
        (changed * of_layer.sum::<usize>()) as u64
    }

    /// Checks the settings by themselves.
    ///
    /// # Errors
    /// With the setting that cannot be used.
    pub fn check(&self) -> Result<(), String> {
        let defaults = Self { rank: self.rank, ..Self::default() };
        if !self.is_on() && *self != defaults {
            return Err(
                "lora has settings but lora.rank is 0, which means no adapter; set lora.rank, such as 16".into()
            );
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(format!("lora.alpha is {}; it must be a positive number", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("lora.dropout is {}; it must be at least 0 and below 1", self.dropout));
        }
        if self.targets.modules().is_empty() {
            return Err("lora.targets is empty; name maps such as \"q_proj\", or write \"all-linear\"".into());
        }
        Ok(())
    }

    /// Checks the settings against a model.
    ///
    /// # Errors
    /// If a layer is outside the model.
    pub fn check_model(&self, num_layers: usize) -> Result<(), String> {
        match self.layers.highest().filter(|highest| *highest > num_layers) {
            Some(highest) => Err(format!("lora.layers names layer {highest}; the model has layers 1 to {num_layers}")),
            None => Ok(()),
        }
    }
}
