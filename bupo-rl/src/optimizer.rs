//! Gradients by parameter, their global norm, and AdamW.

use bupo_models::Decoder;
use bupo_models::decoder::differentiable;
use burn::module::{AutodiffModule, Module, ModuleVisitor, Param, ParamId};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, GradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
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

/// AdamW over a decoder. A parameter without a gradient is left alone: no decay, no moments, no step counted.
pub struct DecoderOptimizer<A: AutodiffBackend> {
    adamw: OptimizerAdaptor<AdamW, Decoder<A>, A>,
    settings: AdamWSettings,
}

impl<A: AutodiffBackend> DecoderOptimizer<A> {
    /// An optimizer that has made no step.
    pub fn new(settings: AdamWSettings) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(settings.beta1 as f32)
            .with_beta_2(settings.beta2 as f32)
            .with_epsilon(settings.epsilon as f32)
            .with_weight_decay(settings.weight_decay as f32)
            .init();
        Self { adamw, settings }
    }

    /// Changes the step size of the steps to come.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.settings.learning_rate = learning_rate;
    }

    /// Clips by global norm and steps. Returns the norm before clipping; where it is not finite, nothing changes.
    pub fn step(&mut self, decoder: &mut Decoder<A::InnerBackend>, gradients: Gradients<A>) -> f64 {
        let norm = gradients.norm(decoder);
        if !norm.is_finite() {
            return norm;
        }
        let scale = self.settings.max_grad_norm / (norm + 1e-6);
        let gradients = if scale < 1.0 { gradients.scaled(decoder, scale) } else { gradients };
        let stepped = self.adamw.step(self.settings.learning_rate, differentiable::<A>(decoder), gradients.by_param);
        *decoder = stepped.valid();
        norm
    }
}

/// Gradients of the parameters that have one.
pub struct Gradients<A: AutodiffBackend> {
    by_param: GradientsParams,
    backend: std::marker::PhantomData<A>,
}

impl<A: AutodiffBackend> Gradients<A> {
    /// No parameter has a gradient.
    pub fn new() -> Self {
        Self { by_param: GradientsParams::new(), backend: std::marker::PhantomData }
    }

    /// Adds the gradients a backward pass left on `decoder`.
    pub fn add(&mut self, decoder: &Decoder<A>, mut gradients: A::Gradients) {
        struct Add<'a, A: AutodiffBackend> {
            total: &'a mut Gradients<A>,
            new: &'a mut A::Gradients,
        }
        impl<A: AutodiffBackend> ModuleVisitor<A> for Add<'_, A> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
                if let Some(gradient) = param.val().grad_remove(self.new) {
                    self.total.add_one(param.id, gradient);
                }
            }
        }
        decoder.visit(&mut Add { total: self, new: &mut gradients });
    }

    /// Adds to the gradient of one parameter.
    pub fn add_one<const D: usize>(&mut self, id: ParamId, gradient: Tensor<A::InnerBackend, D>) {
        let sum = match self.by_param.remove::<A::InnerBackend, D>(id) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.by_param.register(id, sum);
    }

    /// The root of the sum of all squares.
    fn norm(&self, decoder: &Decoder<A::InnerBackend>) -> f64 {
        struct Squares<'a, B: Backend> {
            gradients: &'a GradientsParams,
            sums: Vec<Tensor<B, 1>>,
        }
        impl<B: Backend> ModuleVisitor<B> for Squares<'_, B> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                if let Some(gradient) = self.gradients.get::<B, D>(param.id) {
                    self.sums.push(gradient.square().sum());
                }
            }
        }
        let mut squares = Squares { gradients: &self.by_param, sums: Vec::new() };
        decoder.visit(&mut squares);
        if squares.sums.is_empty() {
            return 0.0;
        }
        Tensor::cat(squares.sums, 0).into_data().iter::<f64>().sum::<f64>().sqrt()
    }

    fn scaled(mut self, decoder: &Decoder<A::InnerBackend>, factor: f64) -> Self {
        struct Scale<'a> {
            gradients: &'a mut GradientsParams,
            factor: f64,
        }
        impl<B: Backend> ModuleVisitor<B> for Scale<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                if let Some(gradient) = self.gradients.remove::<B, D>(param.id) {
                    self.gradients.register(param.id, gradient.mul_scalar(self.factor));
                }
            }
        }
        decoder.visit(&mut Scale { gradients: &mut self.by_param, factor });
        self
    }
}

impl<A: AutodiffBackend> Default for Gradients<A> {
    fn default() -> Self {
        Self::new()
    }
}
