//! One AdamW step of one parameter (arXiv 1711.05101, algorithm 2), in one pass over memory.

mod blocks;
mod dynamic_map;
mod moment;
mod stochastic;
#[cfg(test)]
mod tests;

use burn::tensor::{Tensor, backend::Backend};
use rayon::prelude::*;

use super::host::{Host, HostView, is_host_f32, vectorized};
use super::on_gpu;

pub use dynamic_map::{BLOCK, DynamicMap};
pub use moment::{EightBit, Moment, MomentDtype, adamw_stored};
pub use stochastic::Noise;

const TASK: usize = 1 << 13;

/// The settings of one step.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are multiplied by this first.
    pub scale: f64,
    /// The number of the parameter's step, from 1.
    pub step: usize,
}

/// The new weights, first moments and second moments.
pub fn adamw<B: Backend, const D: usize>(
    weights: Tensor<B, D>,
    gradient: Tensor<B, D>,
    first: Tensor<B, D>,
    second: Tensor<B, D>,
    step: &AdamWStep,
) -> (Tensor<B, D>, Tensor<B, D>, Tensor<B, D>) {
    let Factors { size, root_correction, kept } = step.factors();
    if !is_host_f32(&weights) {
        on_gpu!(B, {
            let numbers = bupo_gpu::AdamWNumbers {
                scale: step.scale as f32,
                beta1: step.beta1 as f32,
                rest1: (1.0 - step.beta1) as f32,
                beta2: step.beta2 as f32,
                rest2: (1.0 - step.beta2) as f32,
                size: size as f32,
                root_factor: (1.0 / root_correction) as f32,
                epsilon: step.epsilon as f32,
                kept: kept as f32,
            };
            bupo_gpu::adamw(weights, gradient, first, second, &numbers)
        });
        let gradient = gradient * step.scale;
        let first = first * step.beta1 + gradient.clone() * (1.0 - step.beta1);
        let second = second * step.beta2 + gradient.square() * (1.0 - step.beta2);
        let change = first.clone() / (second.clone().sqrt() / root_correction + step.epsilon) * size;
        return (weights * kept - change, first, second);
    }
    let device = weights.device();
    let ([mut weights, mut first, mut second], gradient) =
        ([weights, first, second].map(Host::take), HostView::of(gradient));
    step_on([weights.values_mut(), first.values_mut(), second.values_mut()], gradient.values(), &Numbers::of(step));
    (weights.give(&device), first.give(&device), second.give(&device))
}

/// What a step's number makes of its settings.
struct Factors {
    /// The step size over the first moment's bias correction.
    size: f64,
    /// The root of the second moment's bias correction.
    root_correction: f64,
    /// What the decay leaves of a weight.
    kept: f64,
}

impl AdamWStep {
    fn factors(&self) -> Factors {
        let steps = self.step as i32;
        Factors {
            size: self.learning_rate / (1.0 - self.beta1.powi(steps)),
            root_correction: (1.0 - self.beta2.powi(steps)).sqrt(),
            kept: 1.0 - self.learning_rate * self.weight_decay,
        }
    }
}

/// A step's numbers in f32.
#[derive(Clone, Copy)]
struct Numbers {
    scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    size: f32,
    epsilon: f32,
    kept: f32,
    root_factor: f32,
}

impl Numbers {
    fn of(step: &AdamWStep) -> Self {
        let Factors { size, root_correction, kept } = step.factors();
        Self {
            scale: step.scale as f32,
            beta1: step.beta1 as f32,
            rest1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            rest2: (1.0 - step.beta2) as f32,
            size: size as f32,
            epsilon: step.epsilon as f32,
            kept: kept as f32,
            root_factor: (1.0 / root_correction) as f32,
        }
    }

    /// Steps some weights.
    #[inline(always)]
    fn step(&self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        for (((weight, gradient), first), second) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
            let gradient = gradient * self.scale;
            *first = *first * self.beta1 + gradient * self.rest1;
            *second = *second * self.beta2 + gradient * gradient * self.rest2;
            *weight = *weight * self.kept - *first / (second.sqrt() * self.root_factor + self.epsilon) * self.size;
        }
    }
}

fn step_on([weights, first, second]: [&mut [f32]; 3], gradient: &[f32], numbers: &Numbers) {
    weights
        .par_chunks_mut(TASK)
        .zip(gradient.par_chunks(TASK))
        .zip(first.par_chunks_mut(TASK))
        .zip(second.par_chunks_mut(TASK))
        .for_each(|(((weights, gradient), first), second)| {
            vectorized!(numbers.step(weights, gradient, first, second));
        });
}
