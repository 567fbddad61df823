//! The softmax of causal attention, forward and backward, in place.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{cube_max, cube_sum, cubes, row_units};
use crate::runtime::{give, on_runtime, take, take_mut};

/// Below every score.
const LOWEST: f32 = -1e30;

/// A cube a query, which sees the keys up to its own position.
#[cube(launch)]
fn causal_softmax_kernel<E: Float>(
    scores: &mut Array<E>,
    rows: u32,
    queries: u32,
    first: u32,
    keys: u32,
    scale: f32,
    #[comptime] units: usize,
    #[define(E)] _dtype: StorageType,
) {
    if CUBE_POS >= rows as usize {
        terminate!();
    }
    let keys = keys as usize;
    let base = CUBE_POS * keys;
    let seen = CUBE_POS % queries as usize + first as usize + 1;
    let mut largest = f32::cast_from(LOWEST);
    let mut i = UNIT_POS as usize;
    while i < seen {
        largest = max(largest, f32::cast_from(scores[base + i]) * scale);
        i += units;
    }
    let largest = cube_max(largest, units);
    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < seen {
        sum += f32::exp(f32::cast_from(scores[base + i]) * scale - largest);
        i += units;
    }
    let inverse = 1.0f32 / cube_sum(sum, units);
    let mut i = UNIT_POS as usize;
    while i < keys {
        let mut weight = 0.0f32;
        if i < seen {
            weight = f32::exp(f32::cast_from(scores[base + i]) * scale - largest) * inverse;
        }
        scores[base + i] = E::cast_from(weight);
        i += units;
    }
}

#[cube(launch)]
fn softmax_backward_kernel<E: Float>(
    weights: &Array<E>,
    gradient: &mut Array<E>,
    rows: u32,
    queries: u32,
    first: u32,
    keys: u32,
    scale: f32,
    #[comptime] units: usize,
    #[define(E)] _dtype: StorageType,
) {
    if CUBE_POS >= rows as usize {
        terminate!();
    }
    let keys = keys as usize;
    let base = CUBE_POS * keys;
    let seen = CUBE_POS % queries as usize + first as usize + 1;
    let mut along = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < seen {
        along += f32::cast_from(weights[base + i]) * f32::cast_from(gradient[base + i]);
        i += units;
    }
    let along = cube_sum(along, units);
    let mut i = UNIT_POS as usize;
    while i < keys {
        let mut d = 0.0f32;
        if i < seen {
            d = f32::cast_from(weights[base + i]) * (f32::cast_from(gradient[base + i]) - along) * scale;
        }
        gradient[base + i] = E::cast_from(d);
        i += units;
    }
}

/// `softmax(scale * scores)` over the keys of `[.., queries, keys]`. The queries are at the positions from `first` on, and
/// keys after a query have weight 0. One launch.
pub fn causal_softmax<B: Backend, const D: usize>(scores: Tensor<B, D>, first: usize, scale: f64) -> Tensor<B, D> {
    let dims = scores.dims();
    on_runtime!(B, R, {
        let scores = take_mut::<B, R, D>(scores);
        forward(&scores, [dims[D - 2], dims[D - 1]], first, scale);
        give(scores)
    })
}

fn forward<R: CubeRuntime>(scores: &CubeTensor<R>, [queries, keys]: [usize; 2], first: usize, scale: f64) {
    let (rows, units) = (scores.meta.num_elements() / keys.max(1), row_units(keys));
    causal_softmax_kernel::launch::<R>(
        &scores.client,
        cubes(rows),
        CubeDim::new_1d(units as u32),
        scores.clone().into_array_arg(),
        rows as u32,
        queries as u32,
        first as u32,
        keys as u32,
        scale as f32,
        units,
        scores.dtype.into(),
    );
}

/// The gradient with respect to the unscaled scores, from [`causal_softmax`]'s result and the gradient with respect to that.
/// One launch.
pub fn softmax_backward<B: Backend, const D: usize>(
    weights: Tensor<B, D>,
    gradient: Tensor<B, D>,
    first: usize,
    scale: f64,
) -> Tensor<B, D> {
    let dims = gradient.dims();
    on_runtime!(B, R, {
        let gradient = take_mut::<B, R, D>(gradient);
        backward(take::<B, R, D>(weights), &gradient, [dims[D - 2], dims[D - 1]], first, scale);
        give(gradient)
    })
}

fn backward<R: CubeRuntime>(
    weights: CubeTensor<R>,
    gradient: &CubeTensor<R>,
    [queries, keys]: [usize; 2],
    first: usize,
    scale: f64,
) {
    let (rows, units) = (gradient.meta.num_elements() / keys.max(1), row_units(keys));
    softmax_backward_kernel::launch::<R>(
        &gradient.client,
        cubes(rows),
        CubeDim::new_1d(units as u32),
        weights.into_array_arg(),
        gradient.clone().into_array_arg(),
        rows as u32,
        queries as u32,
        first as u32,
        keys as u32,
        scale as f32,
        units,
        gradient.dtype.into(),
    );
}
