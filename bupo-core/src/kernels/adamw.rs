//! One AdamW step of one parameter (arXiv 1711.05101, algorithm 2), in one pass over memory.

use burn::tensor::{Tensor, backend::Backend};
use rayon::prelude::*;

use super::host::{Host, HostView, is_host_f32, vectorized};
use super::on_gpu;

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
    let steps = step.step as i32;
    let size = step.learning_rate / (1.0 - step.beta1.powi(steps));
    let root_correction = (1.0 - step.beta2.powi(steps)).sqrt();
    let kept = 1.0 - step.learning_rate * step.weight_decay;
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
    step_on(
        [weights.values_mut(), first.values_mut(), second.values_mut()],
        gradient.values(),
        step,
        [size, kept, root_correction],
    );
    (weights.give(&device), first.give(&device), second.give(&device))
}

/// `size`, `kept` and `root_correction` as in [`adamw`].
fn step_on(
    [weights, first, second]: [&mut [f32]; 3],
    gradient: &[f32],
    step: &AdamWStep,
    [size, kept, root_correction]: [f64; 3],
) {
    let [beta1, beta2, scale, size, epsilon, kept, root_correction] =
        [step.beta1, step.beta2, step.scale, size, step.epsilon, kept, 1.0 / root_correction].map(|x| x as f32);
    let [rest1, rest2] = [1.0 - step.beta1, 1.0 - step.beta2].map(|x| x as f32);
    weights
        .par_chunks_mut(TASK)
        .zip(gradient.par_chunks(TASK))
        .zip(first.par_chunks_mut(TASK))
        .zip(second.par_chunks_mut(TASK))
        .for_each(|(((weights, gradient), first), second)| {
            vectorized(|| {
                for (((weight, gradient), first), second) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
                    let gradient = gradient * scale;
                    *first = *first * beta1 + gradient * rest1;
                    *second = *second * beta2 + gradient * gradient * rest2;
                    *weight = *weight * kept - *first / (second.sqrt() * root_correction + epsilon) * size;
                }
            });
        });
}
