//! The softmax of each token over slices of its logits, and the gradient with respect to the logits.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cube_max, cube_sum, cubes, cubes_of_values, empty};
use crate::runtime::{give, on_runtime, take, take_int, take_mut};

/// Below every logit.
const LOWEST: f32 = -1e30;

/// The softmax of each token's logits `x` over the slices read so far, all `[rows, 1]` in f32.
#[derive(Debug, Clone)]
pub struct SoftmaxState<B: Backend> {
    /// The largest `x`.
    pub max: Tensor<B, 2>,
    /// The sum of `exp(x - max)`.
    pub sum: Tensor<B, 2>,
    /// The sum of `exp(x - max) (x - max)`.
    pub weighted: Tensor<B, 2>,
    /// The target's `x`.
    pub target: Tensor<B, 2>,
}

/// A cube a token.
#[cube(launch)]
fn fold_kernel<E: Float>(
    logits: &Array<E>,
    targets: &Array<i32>,
    largest: &mut Array<f32>,
    sum: &mut Array<f32>,
    weighted: &mut Array<f32>,
    target: &mut Array<f32>,
    rows: u32,
    width: u32,
    start: u32,
    scale: f32,
    #[comptime] has_targets: bool,
    #[comptime] units: usize,
    #[define(E)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let width = width as usize;
    let base = row * width;
    let mut new = f32::cast_from(LOWEST);
    let mut i = UNIT_POS as usize;
    while i < width {
        new = max(new, f32::cast_from(logits[base + i]) * scale);
        i += units;
    }
    let before = largest[row];
    let new = max(before, cube_max(new, units));
    let mut part = 0.0f32;
    let mut part_weighted = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < width {
        let shifted = f32::cast_from(logits[base + i]) * scale - new;
        let weight = f32::exp(shifted);
        part += weight;
        part_weighted += weight * shifted;
        i += units;
    }
    let part = cube_sum(part, units);
    let part_weighted = cube_sum(part_weighted, units);
    if UNIT_POS == 0 {
        let shrink = f32::exp(before - new);
        let old = sum[row];
        weighted[row] = (weighted[row] + (before - new) * old) * shrink + part_weighted;
        sum[row] = old * shrink + part;
        largest[row] = new;
        if comptime!(has_targets) {
            let id = u32::cast_from(targets[row]) as usize;
            let start = start as usize;
            if id >= start && id < start + width {
                target[row] = f32::cast_from(logits[base + id - start]) * scale;
            }
        }
    }
}

#[cube(launch)]
fn logit_gradient_kernel<E: Float>(
    logits: &Array<E>,
    targets: &Array<i32>,
    largest: &Array<f32>,
    sum: &Array<f32>,
    weighted: &Array<f32>,
    log_probs: &Array<f32>,
    entropy: &Array<f32>,
    out: &mut Array<f32>,
    width: u32,
    start: u32,
    scale: f32,
    #[comptime] has_entropy: bool,
    #[define(E)] _dtype: StorageType,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let row = i / width as usize;
        let column = i % width as usize;
        let log_total = f32::ln(sum[row]);
        let log_prob = f32::cast_from(logits[i]) * scale - (largest[row] + log_total);
        let d = log_probs[row];
        let mut share = d;
        if comptime!(has_entropy) {
            let h = max(log_total - weighted[row] / sum[row], f32::cast_from(0));
            share = d + entropy[row] * (log_prob + h);
        }
        let mut value = f32::exp(log_prob) * share * (0.0f32 - scale);
        if u32::cast_from(targets[row]) as usize == column + start as usize {
            value += d * scale;
        }
        out[i] = value;
    }
}

/// Adds the logits `[rows, width]` of a slice of the vocabulary that begins at `start`, multiplied by `scale`, to the
/// softmax of each token. `targets` are of the whole vocabulary, `[rows]`. One launch.
pub fn fold_logits<B: Backend>(
    state: SoftmaxState<B>,
    logits: Tensor<B, 2>,
    targets: Option<Tensor<B, 1, Int>>,
    start: usize,
    scale: f64,
) -> SoftmaxState<B> {
    on_runtime!(B, R, {
        let SoftmaxState { max, sum, weighted, target } = state;
        let state = [max, sum, weighted, target].map(take_mut::<B, R, 2>);
        fold(&state, take::<B, R, 2>(logits), targets.map(take_int::<B, R, 1>), start, scale);
        let [max, sum, weighted, target] = state.map(give::<B, R, 2>);
        SoftmaxState { max, sum, weighted, target }
    })
}

fn fold<R: CubeRuntime>(
    [largest, sum, weighted, target]: &[CubeTensor<R>; 4],
    logits: CubeTensor<R>,
    targets: Option<CubeTensor<R>>,
    start: usize,
    scale: f64,
) {
    let [rows, width] = logits.meta.shape().dims();
    let has_targets = targets.is_some();
    // Without targets the argument is not read.
    let targets = targets.unwrap_or_else(|| empty(&logits, [1].into(), DType::I32));
    let dtype = logits.dtype.into();
    fold_kernel::launch::<R>(
        &sum.client,
        cubes(rows),
        CubeDim::new_1d(UNITS as u32),
        logits.into_array_arg(),
        targets.into_array_arg(),
        largest.clone().into_array_arg(),
        sum.clone().into_array_arg(),
        weighted.clone().into_array_arg(),
        target.clone().into_array_arg(),
        rows as u32,
        width as u32,
        start as u32,
        scale as f32,
        has_targets,
        UNITS,
        dtype,
    );
}

/// The gradient in f32 with respect to the logits `[rows, width]` of a slice that begins at `start`, before they are
/// multiplied by `scale`, from a loss's derivatives with respect to the targets' log-probs and the entropies, `[rows]`. One
/// launch.
pub fn logit_gradient<B: Backend>(
    state: &SoftmaxState<B>,
    logits: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    log_probs: Tensor<B, 1>,
    entropy: Option<Tensor<B, 1>>,
    start: usize,
    scale: f64,
) -> Tensor<B, 2> {
    on_runtime!(B, R, {
        let state = [&state.max, &state.sum, &state.weighted].map(|part| take::<B, R, 2>(part.clone()));
        let derivatives = (take::<B, R, 1>(log_probs), entropy.map(take::<B, R, 1>));
        give(gradient(state, take::<B, R, 2>(logits), take_int::<B, R, 1>(targets), derivatives, start, scale))
    })
}

fn gradient<R: CubeRuntime>(
    [largest, sum, weighted]: [CubeTensor<R>; 3],
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    (log_probs, entropy): (CubeTensor<R>, Option<CubeTensor<R>>),
    start: usize,
    scale: f64,
) -> CubeTensor<R> {
    let [rows, width] = logits.meta.shape().dims();
    let out = empty(&logits, logits.meta.shape().clone(), DType::F32);
    let has_entropy = entropy.is_some();
    let entropy = entropy.unwrap_or_else(|| log_probs.clone());
    let dtype = logits.dtype.into();
    logit_gradient_kernel::launch::<R>(
        &out.client,
        cubes_of_values(rows * width),
        CubeDim::new_1d(UNITS as u32),
        logits.into_array_arg(),
        targets.into_array_arg(),
        largest.into_array_arg(),
        sum.into_array_arg(),
        weighted.into_array_arg(),
        log_probs.into_array_arg(),
        entropy.into_array_arg(),
        out.clone().into_array_arg(),
        width as u32,
        start as u32,
        scale as f32,
        has_entropy,
        dtype,
    );
    out
}
