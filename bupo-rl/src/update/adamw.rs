//! AdamW over a decoder.

use std::collections::BTreeMap;

use bupo_core::kernels::{AdamWStep, adamw};
use bupo_core::profile::{Part, timed};
use bupo_models::Decoder;
use bupo_models::decoder::Gradients;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

/// AdamW's settings. The defaults are those of arXiv 2512.19673 and PyTorch. Weight decay is decoupled and applies to every
/// parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWSettings {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients with a larger global norm are scaled to this norm.
    pub max_grad_norm: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-6, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 1.0 }
    }
}

/// AdamW over a decoder. A parameter without a gradient is not changed: no decay, no moment update, no step counted. Its moments
/// are allocated at its first gradient.
#[derive(Debug)]
pub struct DecoderOptimizer<B: Backend> {
    settings: AdamWSettings,
    moments: BTreeMap<u64, Moments<B>>,
}

/// AdamW's state of one parameter.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// First moment: the exponential moving average of the gradients.
    pub first: Tensor<B, 1>,
    /// Second moment: that of the squared gradients.
    pub second: Tensor<B, 1>,
    /// Steps made.
    pub steps: usize,
}

impl<B: Backend> DecoderOptimizer<B> {
    /// An optimizer without state.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, moments: BTreeMap::new() }
    }

    /// Sets the learning rate of later steps.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.settings.learning_rate = learning_rate;
    }

    /// The moments by parameter id.
    pub fn moments(&self) -> &BTreeMap<u64, Moments<B>> {
        &self.moments
    }

    /// Replaces the moments, by parameter id.
    pub fn restore(&mut self, moments: BTreeMap<u64, Moments<B>>) {
        self.moments = moments;
    }

    /// Clips by global norm and updates in place. Returns the norm before clipping; if it is not finite, nothing changes.
    pub fn step(&mut self, decoder: &mut Decoder<B>, gradients: Gradients<B>) -> f64 {
        let device = decoder.device();
        timed::<B, _>(Part::Optimizer, &device, || self.stepped(decoder, gradients))
    }

    fn stepped(&mut self, decoder: &mut Decoder<B>, gradients: Gradients<B>) -> f64 {
        let norm = gradients.norm();
        if !norm.is_finite() {
            return norm;
        }
        let scale = (self.settings.max_grad_norm / (norm + 1e-6)).min(1.0);
        let mut stepping = Stepping { optimizer: self, gradients, scale };
        // Moved out, so that the weights have a single owner and are updated in place.
        let placeholder = decoder.placeholder();
        *decoder = std::mem::replace(decoder, placeholder).map(&mut stepping);
        norm
    }
}

struct Stepping<'a, B: Backend> {
    optimizer: &'a mut DecoderOptimizer<B>,
    gradients: Gradients<B>,
    scale: f64,
}

impl<B: Backend> ModuleMapper<B> for Stepping<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(gradient) = self.gradients.take(param.id) else { return param };
        let (id, weights, mapper) = param.consume();
        let shape = weights.dims();
        let weights: Tensor<B, 1> = weights.flatten(0, D - 1);
        let Moments { first, second, steps } = self.optimizer.moments.remove(&id.val()).unwrap_or_else(|| {
            let zeros = || gradient.zeros_like();
            Moments { first: zeros(), second: zeros(), steps: 0 }
        });
        let settings = &self.optimizer.settings;
        let step = AdamWStep {
            learning_rate: settings.learning_rate,
            beta1: settings.beta1,
            beta2: settings.beta2,
            epsilon: settings.epsilon,
            weight_decay: settings.weight_decay,
            scale: self.scale,
            step: steps + 1,
        };
        let (weights, first, second) = adamw(weights, gradient, first, second, &step);
        self.optimizer.moments.insert(id.val(), Moments { first, second, steps: steps + 1 });
        Param::from_mapped_value(id, weights.reshape(shape), mapper)
    }
}
