//! The changes of a run that rounding to the dtype of the saved model sets back.

use std::hash::{DefaultHasher, Hash, Hasher};

use bupo_models::decoder::NamedTensor;
use bupo_models::{Decoder, SaveDtype};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, backend::Backend, bf16, f16};

/// The share of changed weights beyond which a model is saved in f32 unless `save_dtype` is set, and a warning is given.
pub(super) const MAX_SHARE: f64 = 0.05;
/// The largest number of weights sampled per tensor.
const SAMPLED: usize = 4096;

/// Weights of every parameter at even distances, in the order of the decoder's parameters.
pub(super) struct WeightSample(Vec<Sampled>);

struct Sampled {
    /// The distance between sampled weights; each of them stands for that many.
    stride: usize,
    weights: Vec<f32>,
}

impl WeightSample {
    /// Samples the weights of a decoder.
    pub(super) fn new<B: Backend>(decoder: &Decoder<B>) -> Self {
        let mut sample = Self(Vec::new());
        decoder.visit(&mut sample);
        sample
    }

    /// A number that tells samples of different weights apart.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.iter().flat_map(|sampled| &sampled.weights).for_each(|weight| weight.to_bits().hash(&mut hasher));
        hasher.finish()
    }

    /// The share, by a sample, of the weights changed since then that have their old value again after rounding to `dtype` of their
    /// tensor's name. `None` if no tensor is rounded or none has changed.
    pub(super) fn rounded_away(&self, weights: &[NamedTensor], dtype: impl Fn(&str) -> SaveDtype) -> Option<f64> {
        let (mut changed, mut set_back) = (0, 0);
        let mut is_rounded = false;
        for (before, now) in self.0.iter().zip(weights) {
            let dtype = dtype(&now.name);
            is_rounded |= dtype != SaveDtype::F32;
            for (before, now) in before.pairs(&now.data.iter::<f32>().collect::<Vec<_>>()) {
                changed += usize::from(before.0 != now) * before.1;
                set_back += usize::from(before.0 != now && round(before.0, dtype) == round(now, dtype)) * before.1;
            }
        }
        (is_rounded && changed > 0).then(|| set_back as f64 / changed as f64)
    }
}

impl Sampled {
    /// Each sampled weight with the number of weights it stands for, beside its value now.
    fn pairs(&self, now: &[f32]) -> impl Iterator<Item = ((f32, usize), f32)> {
        let now = now.iter().copied().step_by(self.stride);
        self.weights.iter().map(|weight| (*weight, self.stride)).zip(now).collect::<Vec<_>>().into_iter()
    }
}

impl<B: Backend> ModuleVisitor<B> for WeightSample {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let weights: Tensor<B, 1> = param.val().flatten(0, D - 1);
        let length = weights.dims()[0];
        let count = length.min(SAMPLED);
        let stride = length / count.max(1);
        let sampled: Tensor<B, 2> = weights.narrow(0, 0, count * stride).reshape([count, stride]).narrow(1, 0, 1);
        self.0.push(Sampled { stride, weights: sampled.into_data().iter::<f32>().collect() });
    }
}

/// The warning about a share above [`MAX_SHARE`]; `in_f32`: whether the model is saved in f32 because of it.
pub(super) fn warning(share: f64, in_f32: bool) -> String {
    let share = 100.0 * share;
    if in_f32 {
        format!(
            "rounding to the model's own dtype would set back {share:.0}% of the weights that training changed, so model/ is saved in \
             f32; set save_dtype = \"bf16\" to round them all the same"
        )
    } else {
        format!(
            "rounding to save_dtype sets back {share:.0}% of the weights that training changed; set save_dtype = \"f32\" to keep them \
             in model/, or raise optimizer.learning_rate"
        )
    }
}

fn round(value: f32, dtype: SaveDtype) -> f32 {
    match dtype {
        SaveDtype::F32 => value,
        SaveDtype::Bf16 => bf16::from_f32(value).to_f32(),
        SaveDtype::F16 => f16::from_f32(value).to_f32(),
    }
}
