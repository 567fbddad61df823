//! AdamW over a decoder.

use std::collections::BTreeMap;

use bupo_collective::Processes;
use bupo_core::kernels::{AdamWStep, adamw};
use bupo_core::profile::{Part, timed};
use bupo_models::Decoder;
use bupo_models::decoder::Gradients;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::RlError;

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
    /// Whether each process keeps and steps its part of every parameter only (ZeRO-1, arXiv 1910.02054).
    is_sharded: bool,
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
        Self { settings, moments: BTreeMap::new(), is_sharded: false }
    }

    /// The same, with moments shared out among the processes: each keeps those of its part of every parameter.
    pub fn sharded(self) -> Self {
        Self { is_sharded: true, ..self }
    }

    /// Whether moments are shared out.
    pub fn is_sharded(&self) -> bool {
        self.is_sharded
    }

    /// Sets the learning rate of later steps.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.settings.learning_rate = learning_rate;
    }

    /// The moments by parameter id: whole ones, or this process's parts.
    pub fn moments(&self) -> &BTreeMap<u64, Moments<B>> {
        &self.moments
    }

    /// Replaces the moments, by parameter id: whole ones, or this process's parts.
    pub fn restore(&mut self, moments: BTreeMap<u64, Moments<B>>) {
        self.moments = moments;
    }

    /// Sums the gradients over the processes, clips by global norm and updates in place. Returns the norm before clipping; if it is
    /// not finite, nothing changes.
    ///
    /// # Errors
    /// If the connection of the processes fails.
    pub fn step(
        &mut self,
        decoder: &mut Decoder<B>,
        gradients: Gradients<B>,
        processes: &Processes,
    ) -> Result<f64, RlError> {
        let device = decoder.device();
        timed::<B, _>(Part::Optimizer, &device, || self.stepped(decoder, gradients, processes))
    }

    fn stepped(
        &mut self,
        decoder: &mut Decoder<B>,
        gradients: Gradients<B>,
        processes: &Processes,
    ) -> Result<f64, RlError> {
        let gradients = self.summed(gradients, &decoder.device(), processes)?;
        let squares = gradients.sum_of_squares();
        let norm = if self.is_sharded { processes.gather(squares)?.iter().sum() } else { squares }.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        let scale = (self.settings.max_grad_norm / (norm + 1e-6)).min(1.0);
        let mut stepping = Stepping { optimizer: self, gradients, scale, processes, error: None };
        // Moved out, so that the weights have a single owner and are updated in place.
        let placeholder = decoder.placeholder();
        *decoder = std::mem::replace(decoder, placeholder).map(&mut stepping);
        stepping.error.map_or(Ok(norm), Err)
    }

    /// The sums over the processes: whole ones, or this process's parts. A process without samples has no gradients of its own.
    fn summed(
        &self,
        mut gradients: Gradients<B>,
        device: &B::Device,
        processes: &Processes,
    ) -> Result<Gradients<B>, RlError> {
        if processes.is_alone() {
            return Ok(gradients);
        }
        let lengths: BTreeMap<u64, usize> = processes.gather(gradients.lengths())?.into_iter().flatten().collect();
        let mut summed = Gradients::new();
        for (id, length) in lengths {
            let id = ParamId::from(id);
            let own = gradients.take(id).unwrap_or_else(|| Tensor::zeros([length], device));
            summed.add(id, if self.is_sharded { processes.reduce_scatter(own)? } else { processes.sum(own)? });
        }
        Ok(summed)
    }
}

struct Stepping<'a, B: Backend> {
    optimizer: &'a mut DecoderOptimizer<B>,
    gradients: Gradients<B>,
    scale: f64,
    processes: &'a Processes,
    error: Option<RlError>,
}

impl<B: Backend> Stepping<'_, B> {
    /// The weights after the step, flattened, from those before and the gradient, whole or this process's part.
    fn stepped(&mut self, id: ParamId, weights: Tensor<B, 1>, gradient: Tensor<B, 1>) -> Result<Tensor<B, 1>, RlError> {
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
        let length = weights.dims()[0];
        let own = if self.optimizer.is_sharded { self.processes.part_of(weights) } else { weights };
        let (own, first, second) = adamw(own, gradient, first, second, &step);
        self.optimizer.moments.insert(id.val(), Moments { first, second, steps: steps + 1 });
        if self.optimizer.is_sharded { Ok(self.processes.all_gather(own, length)?) } else { Ok(own) }
    }
}

impl<B: Backend> ModuleMapper<B> for Stepping<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(gradient) = self.gradients.take(param.id).filter(|_| self.error.is_none()) else { return param };
        let (id, weights, mapper) = param.consume();
        let (shape, device) = (weights.dims(), weights.device());
        // Without a copy, so that the weights are updated in place; they are lost if another process is.
        match self.stepped(id, weights.flatten(0, D - 1), gradient) {
            Ok(weights) => Param::from_mapped_value(id, weights.reshape(shape), mapper),
            Err(error) => {
                self.error = Some(error);
                Param::from_mapped_value(id, Tensor::zeros(shape, &device), mapper)
            }
        }
    }
}
