//! AdamW over a decoder.

use std::collections::BTreeMap;

use bupo_core::kernels::{AdamWStep, adamw};
use bupo_core::profile::{Part, timed};
use bupo_models::Decoder;
use bupo_models::decoder::Gradients;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

/// AdamW's settings; the defaults are the paper's, which are PyTorch's. Decay is decoupled and on every parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWSettings {
    /// Step size, constant.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients with a larger global norm are scaled down to it.
    pub max_grad_norm: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-6, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 1.0 }
    }
}

/// AdamW over a decoder. A parameter without a gradient is left alone: no decay, no moments, no step counted; moments take
/// memory from a parameter's first gradient on.
#[derive(Debug)]
pub struct DecoderOptimizer<B: Backend> {
    settings: AdamWSettings,
    moments: BTreeMap<u64, Moments<B>>,
}

/// What AdamW remembers of one parameter.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// The decaying mean of its gradients.
    pub first: Tensor<B, 1>,
    /// The decaying mean of their squares.
    pub second: Tensor<B, 1>,
    /// Steps made.
    pub steps: usize,
}

impl<B: Backend> DecoderOptimizer<B> {
    /// An optimizer that has made no step.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, moments: BTreeMap::new() }
    }

    /// Changes the step size of the steps to come.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.settings.learning_rate = learning_rate;
    }

    /// What is remembered, by parameter id.
    pub fn moments(&self) -> &BTreeMap<u64, Moments<B>> {
        &self.moments
    }

    /// Goes on from what an optimizer remembered.
    pub fn restore(&mut self, moments: BTreeMap<u64, Moments<B>>) {
        self.moments = moments;
    }

    /// Clips by global norm and steps, in place. Returns the norm before clipping; where it is not finite, nothing changes.
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
        // Taken out, so that nobody else holds the weights while they change.
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
