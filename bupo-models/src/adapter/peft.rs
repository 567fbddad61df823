//! Adapter folders in the layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::Targets;
use super::{Adapter, AdapterConfig, LayerRanges, ModuleName};
use crate::pretrained::{StoredTensor, to_f32, write_safetensors};
use crate::{ModelConfig, ModelError, SaveDtype};

/// The settings of an adapter folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The matrices of an adapter folder.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// Fields of `adapter_config.json`. Where PEFT takes several layouts, the matrices of the file say which maps are changed.
#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, Value>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, Value>,
}

/// Writes an adapter into a folder, which is created if it is missing, in f32. `base`: the model it belongs to, as PEFT names it.
///
/// # Errors
/// If a file cannot be written.
pub fn write_adapter(folder: &Path, adapter: &Adapter, base: Option<&str>) -> Result<(), ModelError> {
    fs::create_dir_all(folder).map_err(ModelError::io("create", folder))?;
    let config = &adapter.config;
    let layers: Option<Vec<usize>> =
        (!config.layers.is_all()).then(|| layers_of(adapter).map(|layer| layer - 1).collect());
    let written = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "use_dora": false,
        "target_modules": config.targets.modules(),
        "layers_to_transform": layers,
        "layers_pattern": layers.as_ref().map(|_| "layers"),
        "bias": "none",
        "modules_to_save": null,
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "inference_mode": true,
        "rank_pattern": {},
        "alpha_pattern": {},
    });
    let path = folder.join(ADAPTER_CONFIG);
    fs::write(&path, format!("{written:#}\n")).map_err(ModelError::io("write", &path))?;
    let stored: Vec<StoredTensor> = adapter
        .matrices
        .iter()
        .flat_map(|((layer, module), matrices)| {
            let name = |part: &str| tensor_name(*layer, *module, part);
            let [a, b] = matrices;
            [("lora_A", a), ("lora_B", b)].map(|(part, data)| StoredTensor::new(name(part), data, SaveDtype::F32))
        })
        .collect();
    write_safetensors(&folder.join(ADAPTER_WEIGHTS), &stored)
}

/// Reads an adapter folder for a model.
///
/// # Errors
/// If a file is missing or damaged, the adapter is of another kind than LoRA or uses a feature that the decoder does not have, or a
/// matrix does not fit the model or is not finite.
pub fn read_adapter(folder: &Path, model: &ModelConfig) -> Result<Adapter, ModelError> {
    let path = folder.join(ADAPTER_CONFIG);
    let text = fs::read_to_string(&path).map_err(ModelError::io("read", &path))?;
    let peft: PeftConfig = serde_json::from_str(&text).map_err(ModelError::json(&path))?;
    peft.check().map_err(|reason| ModelError::Json { path: path.clone(), reason })?;

    let path = folder.join(ADAPTER_WEIGHTS);
    let wrong = |reason: String| ModelError::Weights { place: path.clone(), reason };
    if !path.exists() && folder.join("adapter_model.bin").exists() {
        return Err(wrong(
            "there is only adapter_model.bin; pickled weights can run code when they are read: save the adapter as safetensors".into(),
        ));
    }
    let bytes = fs::read(&path).map_err(ModelError::io("read", &path))?;
    let damaged =
        |error: safetensors::SafeTensorError| ModelError::Damaged { path: path.clone(), reason: error.to_string() };
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut found: BTreeMap<(usize, ModuleName), [Option<TensorData>; 2]> = BTreeMap::new();
    for (name, view) in file.tensors() {
        let (layer, module, part) = place(&name).ok_or_else(|| {
            wrong(format!("tensor `{name}` is not of a linear map of a layer; only those can have adapters"))
        })?;
        if layer > model.num_hidden_layers {
            let count = model.num_hidden_layers;
            return Err(wrong(format!(
                "tensor `{name}` is of layer {layer}, but the model has {count}; give its own model"
            )));
        }
        if !matches!(view.dtype(), Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return Err(wrong(format!("tensor `{name}` is {}; save the adapter in F32, BF16 or F16", view.dtype())));
        }
        let [output, input] = module.shape(model);
        let (rank, fits) = match (part, view.shape()) {
            (0, [rank, width]) => (*rank, *width == input),
            (_, [width, rank]) => (*rank, *width == output),
            _ => (0, false),
        };
        if !fits || rank == 0 {
            let expected = if part == 0 { format!("[rank, {input}]") } else { format!("[{output}, rank]") };
            let shape = view.shape();
            return Err(wrong(format!(
                "tensor `{name}` has shape {shape:?}; in this model it is {expected}; give its own model"
            )));
        }
        let values = to_f32(view.dtype(), view.data());
        if values.iter().any(|value| !value.is_finite()) {
            return Err(wrong(format!("tensor `{name}` has values that are not finite")));
        }
        let data = TensorData::new(values, view.shape().to_vec());
        found.entry((layer, module)).or_default()[part] = Some(data);
    }
    let matrices = found
        .into_iter()
        .map(|((layer, module), pair)| match pair {
            [Some(a), Some(b)] if a.shape[0] == b.shape[1] => Ok(((layer, module), [a, b])),
            _ => Err(wrong(format!(
                "the matrices lora_A and lora_B of {} do not belong together",
                tensor_name(layer, module, "*")
            ))),
        })
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    if matrices.is_empty() {
        return Err(wrong("it has no tensors".into()));
    }
    Ok(peft.adapter(matrices, model))
}

impl PeftConfig {
    /// Checks that the decoder has every feature that the adapter uses.
    fn check(&self) -> Result<(), String> {
        let unsupported = [
            ("use_dora = true", self.use_dora),
            ("fan_in_fan_out = true", self.fan_in_fan_out),
            ("modules_to_save", self.modules_to_save.as_ref().is_some_and(|modules| !modules.is_empty())),
            ("alpha_pattern", !self.alpha_pattern.is_empty()),
            ("rank_pattern", !self.rank_pattern.is_empty()),
            ("bias", self.bias.as_deref().is_some_and(|bias| bias != "none")),
        ];
        if self.peft_type != "LORA" {
            return Err(format!("the adapter is of the type {}; only LORA is supported", self.peft_type));
        }
        if self.r == 0 {
            return Err("r is 0; it must be at least 1".into());
        }
        match unsupported.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(format!("{name} is not supported; give an adapter without it, or merge it in PEFT")),
            None => Ok(()),
        }
    }

    fn adapter(self, matrices: BTreeMap<(usize, ModuleName), [TensorData; 2]>, model: &ModelConfig) -> Adapter {
        let modules = ModuleName::ALL.into_iter().filter(|module| matrices.keys().any(|(_, other)| other == module));
        let modules: Vec<ModuleName> = modules.collect();
        let mut config = AdapterConfig {
            rank: self.r,
            alpha: self.lora_alpha,
            dropout: self.lora_dropout,
            targets: if modules.len() == ModuleName::ALL.len() { Targets::ALL_LINEAR } else { Targets::Some(modules) },
            layers: LayerRanges::default(),
            rslora: self.use_rslora,
        };
        let mut adapter = Adapter { config: config.clone(), matrices };
        if layers_of(&adapter).count() < model.num_hidden_layers {
            config.layers = LayerRanges::of(layers_of(&adapter));
        }
        adapter.config = config;
        adapter
    }
}

/// The layers that have adapters, from 1, in order.
fn layers_of(adapter: &Adapter) -> impl Iterator<Item = usize> {
    let layers: std::collections::BTreeSet<usize> = adapter.matrices.keys().map(|(layer, _)| *layer).collect();
    layers.into_iter()
}

fn tensor_name(layer: usize, module: ModuleName, part: &str) -> String {
    format!("base_model.model.model.layers.{}.{}.{module}.{part}.weight", layer - 1, module.half())
}

/// The layer, from 1, the map, and 0 for `A` or 1 for `B`, of a tensor's name.
fn place(name: &str) -> Option<(usize, ModuleName, usize)> {
    let rest = name.strip_prefix("base_model.model.model.layers.")?;
    let [index, half, module, part, "weight"] = rest.split('.').collect::<Vec<_>>()[..] else { return None };
    let module: ModuleName = module.parse().ok().filter(|module: &ModuleName| module.half() == half)?;
    let part = ["lora_A", "lora_B"].into_iter().position(|name| name == part)?;
    Some((index.parse::<usize>().ok()? + 1, module, part))
}
