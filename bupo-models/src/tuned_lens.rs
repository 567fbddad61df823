//! Tuned lenses: affine maps from a layer's states to states that the final norm and the unembedding read (arXiv 2303.08112).

use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use safetensors::{Dtype, SafeTensors};

use crate::pretrained::{StoredTensor, to_f32, write_safetensors};
use crate::{ModelConfig, ModelError, ModelFiles, SaveDtype};

/// The file of a tuned lens in its model's folder. It is in a folder of its own, since other programs take all safetensors files of a
/// model's folder for its weights.
pub const TUNED_LENS: &str = "tuned_lens/params.safetensors";

/// A tuned lens on the host: W `[hidden, hidden]` and b `[hidden]` of the states after 0 to L - 1 layers, of which a state h becomes
/// h + W h + b. The states after the last layer have no map: they are read by the model's own norm and unembedding.
#[derive(Debug, Clone, PartialEq)]
pub struct TunedLens {
    pub(crate) maps: Vec<(TensorData, TensorData)>,
}

impl TunedLens {
    /// The lens that changes nothing, and so is the logit lens.
    pub fn identity(model: &ModelConfig) -> Self {
        let width = model.hidden_size;
        let map = (TensorData::zeros::<f32, _>([width, width]), TensorData::zeros::<f32, _>([width]));
        Self { maps: vec![map; model.num_hidden_layers] }
    }

    /// Reads the lens of a model from `file`, or from its folder.
    ///
    /// # Errors
    /// If there is none, or it is damaged, has values that are not finite, or is of a model with other layers or another width.
    pub fn read(file: Option<&Path>, files: &ModelFiles, model: &ModelConfig) -> Result<Self, ModelError> {
        let (path, bytes) = Self::bytes(file, files)?;
        let damaged =
            |error: safetensors::SafeTensorError| ModelError::Damaged { path: path.clone(), reason: error.to_string() };
        let stored = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let wrong = |reason: String| ModelError::Weights { place: path.clone(), reason };
        let (layers, width) = (model.num_hidden_layers, model.hidden_size);
        let tensor = |name: String, shape: &[usize]| {
            let missing = || wrong(format!("there is no tensor `{name}`; give the tuned lens of this model"));
            let view = stored.tensor(&name).map_err(|_| missing())?;
            if view.shape() != shape {
                let found = view.shape();
                return Err(wrong(format!(
                    "tensor `{name}` has shape {found:?}; of this model it is {shape:?}; give its own tuned lens"
                )));
            }
            if !matches!(view.dtype(), Dtype::F32 | Dtype::BF16 | Dtype::F16) {
                return Err(wrong(format!("tensor `{name}` is {}; save it in F32, BF16 or F16", view.dtype())));
            }
            let values = to_f32(view.dtype(), view.data());
            if values.iter().any(|value| !value.is_finite()) {
                return Err(wrong(format!("tensor `{name}` has values that are not finite")));
            }
            Ok(TensorData::new(values, shape.to_vec()))
        };
        if stored.len() != 2 * layers {
            let count = stored.len();
            return Err(wrong(format!(
                "it has {count} tensors; of this model of {layers} layers it is {}; give its own tuned lens",
                2 * layers
            )));
        }
        let map = |index: usize| {
            Ok((tensor(format!("{index}.weight"), &[width, width])?, tensor(format!("{index}.bias"), &[width])?))
        };
        Ok(Self { maps: (0..layers).map(map).collect::<Result<_, ModelError>>()? })
    }

    /// The path and the bytes of a lens's file: `file`, or that of the model's folder.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn bytes(file: Option<&Path>, files: &ModelFiles) -> Result<(PathBuf, Vec<u8>), ModelError> {
        match file {
            Some(path) => Ok((path.to_path_buf(), std::fs::read(path).map_err(ModelError::io("read", path))?)),
            None if files.has(TUNED_LENS) => Ok((files.path(TUNED_LENS), files.bytes(TUNED_LENS)?)),
            None => Err(bupo_core::CoreError::NoTunedLens.into()),
        }
    }

    /// Writes the lens in f32, with the names of the maps' tensors in the package tuned-lens.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ModelError> {
        let stored = |(index, (weight, bias)): (usize, &(TensorData, TensorData))| {
            [("weight", weight), ("bias", bias)]
                .map(|(part, data)| StoredTensor::new(format!("{index}.{part}"), data, SaveDtype::F32))
        };
        let tensors: Vec<StoredTensor> = self.maps.iter().enumerate().flat_map(stored).collect();
        write_safetensors(path, &tensors)
    }
}
