//! One AdamW step, in place.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cubes_of_values};
use crate::runtime::{give, on_runtime, take, take_mut};

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
pub struct AdamWNumbers {
    /// Gradients are multiplied by it.
    pub scale: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// One less `beta1`.
    pub rest1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// One less `beta2`.
    pub rest2: f32,
    /// The learning rate over the first moment's correction.
    pub size: f32,
    /// What the second moment's root is multiplied by.
    pub root_factor: f32,
    /// Added to that root.
    pub epsilon: f32,
    /// What is kept of a weight: one less the decay.
    pub kept: f32,
}

#[cube(launch)]
fn adamw_kernel(
    weights: &mut Array<f32>,
    gradient: &Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    size: f32,
    root_factor: f32,
    epsilon: f32,
    kept: f32,
) {
    let i = ABSOLUTE_POS;
    if i < weights.len() {
        let g = gradient[i] * scale;
        let m = first[i] * beta1 + g * rest1;
        let v = second[i] * beta2 + g * g * rest2;
        first[i] = m;
        second[i] = v;
        weights[i] = weights[i] * kept - m / (f32::sqrt(v) * root_factor + epsilon) * size;
    }
}

/// The new weights, first and second moments, all f32 and written in place where they are not shared. One launch.
pub fn adamw<B: Backend, const D: usize>(
    weights: Tensor<B, D>,
    gradient: Tensor<B, D>,
    first: Tensor<B, D>,
    second: Tensor<B, D>,
    numbers: &AdamWNumbers,
) -> (Tensor<B, D>, Tensor<B, D>, Tensor<B, D>) {
    on_runtime!(B, R, {
        let [weights, first, second] = [weights, first, second].map(take_mut::<B, R, D>);
        launch(&weights, take::<B, R, D>(gradient), &first, &second, numbers);
        (give(weights), give(first), give(second))
    })
}

fn launch<R: CubeRuntime>(
    weights: &CubeTensor<R>,
    gradient: CubeTensor<R>,
    first: &CubeTensor<R>,
    second: &CubeTensor<R>,
    numbers: &AdamWNumbers,
) {
    adamw_kernel::launch::<R>(
        &weights.client,
        cubes_of_values(weights.meta.num_elements()),
        CubeDim::new_1d(UNITS as u32),
        weights.clone().into_array_arg(),
        gradient.into_array_arg(),
        first.clone().into_array_arg(),
        second.clone().into_array_arg(),
        numbers.scale,
        numbers.beta1,
        numbers.rest1,
        numbers.beta2,
        numbers.rest2,
        numbers.size,
        numbers.root_factor,
        numbers.epsilon,
        numbers.kept,
    );
}
