//! What the tests against committed reference values share.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use bupo::models::{LoadedModel, ModelFiles, load_model};
use burn::backend::Flex;
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;

/// The backend of the tests.
pub type B = Flex;

/// The tiny random checkpoints of `tests/reference/make_reference.py`.
pub const FIXTURES: [&str; 4] = ["qwen3-tied", "qwen2-untied-sharded-bf16", "llama3-scaled", "qwen3-untied-f16"];

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

pub fn load(name: &str) -> LoadedModel<B> {
    load_folder(&fixture(name))
}

pub fn load_folder(folder: &Path) -> LoadedModel<B> {
    load_model(&ModelFiles::folder(folder).unwrap(), &Default::default()).unwrap()
}

pub fn json<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// All f32 tensors of a safetensors file: name, shape, values.
pub fn tensors(path: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            (name, view.shape().to_vec(), values)
        })
        .collect()
}

pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |max, d| if d.is_nan() { f32::INFINITY } else { max.max(d) })
}
