//! AdamW over a decoder.

use std::collections::BTreeMap;

use bupo_collective::Processes;
use bupo_core::kernels::{AdamWStep, MomentDtype, Noise, adamw_stored};
use bupo_core::profile::{Part, timed};
use bupo_models::Decoder;
use bupo_models::decoder::Gradients;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::moments::{Moments, Shares};
use super::weight_storage::WeightStorage;
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
    /// The dtype of the moments of parameters of at least [`MomentDtype::MIN_WEIGHTS`]; those of smaller ones are in f32.
    pub moments: MomentDtype,
    /// How a model whose layers compute in bf16 keeps their weights.
    pub weights: WeightStorage,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            moments: MomentDtype::F32,
            weights: WeightStorage::F32Master,
        }
    }
}

/// AdamW over a decoder. A parameter without a gradient is not changed: no decay, no moment update, no step counted. Its moments
/// are allocated at its first gradient. A parameter in bf16 stays in bf16: it is rounded stochastically.
#[derive(Debug)]
pub struct DecoderOptimizer<B: Backend> {
    settings: AdamWSettings,
    /// Of the random numbers of stochastic rounding.
    seed: u64,
    moments: BTreeMap<u64, Moments<B>>,
    /// Whether each process keeps and steps its part of every parameter only (ZeRO-1, arXiv 1910.02054).
    is_sharded: bool,
}

impl<B: Backend> DecoderOptimizer<B> {
    /// An optimizer without state.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, seed: 0, moments: BTreeMap::new(), is_sharded: false }
    }

    /// The same, with the random numbers of another seed than 0.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
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

    /// How the moments of a parameter of `length` weights are shared out among the processes.
    pub(crate) fn shares<'a>(&self, length: usize, processes: &'a Processes) -> Shares<'a> {
        let dtype = self.settings.moments.of_parameter(length);
        Shares { length, dtype, processes: Some(processes).filter(|_| self.is_sharded) }
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
            let shares = self.shares(length, processes);
            summed.add(id, if self.is_sharded { shares.reduce_scatter(own)? } else { processes.sum(own)? });
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
        let shares = self.optimizer.shares(weights.dims()[0], self.processes);
        let moments = self.optimizer.moments.remove(&id.val());
        let Moments { first, second, steps } = moments.unwrap_or_else(|| shares.no_moments(&weights.device()));
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
        let noise = Noise { seed: self.optimizer.seed, parameter: id.val(), offset: shares.offset() };
        let own = shares.part_of(weights);
        let (own, [first, second]) = adamw_stored(own, gradient, [first, second], &step, &noise);
        self.optimizer.moments.insert(id.val(), Moments { first, second, steps: steps + 1 });
        shares.all_gather(own)
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
