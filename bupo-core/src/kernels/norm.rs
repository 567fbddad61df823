//! RMS norm, with statistics in f32 whatever the dtype.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use super::host::{Host, HostView, each_row, is_host_f32, sum, sum3, task_rows, vectorized};
use super::linear::add;
use super::on_gpu;

/// `y = x / sqrt(mean(x^2) + eps) * weight` for each row of `x` `[rows, width]`.
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 1>, eps: f64) -> Tensor<B, 2> {
    if !is_host_f32(&x) {
        on_gpu!(B, bupo_gpu::rms_norm(x, weight, eps));
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let root = x.clone().square().mean_dim(1).add_scalar(eps).sqrt();
        return (x / root * weight.cast(DType::F32).unsqueeze()).cast(dtype);
    }
    let (device, shape) = (x.device(), x.dims());
    let (x, weight, mut normed) = (HostView::of(x), HostView::of(weight), Host::zeros(shape));
    normalize_rows(x.values(), weight.values(), eps as f32, normed.values_mut());
    normed.give(&device)
}

/// `x + y` `[rows, width]`, and its [`rms_norm`].
pub fn add_rms_norm<B: Backend>(
    x: Tensor<B, 2>,
    y: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    eps: f64,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    on_gpu!(B, bupo_gpu::add_rms_norm(x, y, weight, eps));
    if !is_host_f32(&x) {
        let sum = x + y;
        return (sum.clone(), rms_norm(sum, weight, eps));
    }
    let (device, shape) = (x.device(), x.dims());
    let (x, mut sum) = (HostView::of(x), Host::take(y));
    let (weight, mut normed) = (HostView::of(weight), Host::zeros(shape));
    add_normalize(x.values(), weight.values(), eps as f32, sum.values_mut(), normed.values_mut());
    (sum.give(&device), normed.give(&device))
}

fn normalize_rows(x: &[f32], weight: &[f32], eps: f32, normed: &mut [f32]) {
    let width = weight.len();
    each_row(
        normed,
        width,
        #[inline(always)]
        |row, normed| {
            normalize(&x[row * width..][..width], weight, eps, normed);
        },
    );
}

/// Adds `x` to `sum` and normalizes it.
fn add_normalize(x: &[f32], weight: &[f32], eps: f32, sum: &mut [f32], normed: &mut [f32]) {
    let width = weight.len().max(1);
    let rows = task_rows(width) * width;
    let tasks = sum.par_chunks_mut(rows).zip(normed.par_chunks_mut(rows));
    tasks.zip(x.par_chunks(rows)).for_each(|((sum, normed), x)| {
        vectorized!({
            sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
            for (sum, normed) in sum.chunks(width).zip(normed.chunks_mut(width)) {
                normalize(sum, weight, eps, normed);
            }
        });
    });
}

#[inline(always)]
fn normalize(x: &[f32], weight: &[f32], eps: f32, normed: &mut [f32]) {
    let inverse = inverse_root(x, eps);
    for ((normed, x), weight) in normed.iter_mut().zip(x).zip(weight) {
        *normed = *x * inverse * weight;
    }
}

/// The gradients with respect to `x` `[rows, width]` and the weight `[width]`, from the gradient `dy` of [`rms_norm`]'s
/// result.
pub fn rms_norm_backward<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    eps: f64,
    dy: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    if !is_host_f32(&x) {
        on_gpu!(B, bupo_gpu::rms_norm_backward(x, weight, eps, dy));
        let dtype = x.dtype();
        let (x, dy) = (x.cast(DType::F32), dy.cast(DType::F32));
        let root = x.clone().square().mean_dim(1).add_scalar(eps).sqrt();
        let unit = x / root.clone();
        let d_weight = (dy.clone() * unit.clone()).sum_dim(0).squeeze_dim(0);
        let d_unit = dy * weight.cast(DType::F32).unsqueeze();
        let along = (d_unit.clone() * unit.clone()).mean_dim(1);
        return (((d_unit - unit * along) / root).cast(dtype), d_weight);
    }
    let (device, width) = (x.device(), x.dims()[1]);
    let (x, weight, mut dy) = (HostView::of(x), HostView::of(weight), Host::take(dy));
    let d_weight = normalize_backward(x.values(), weight.values(), eps as f32, dy.values_mut());
    (dy.give(&device), Tensor::from_data(TensorData::new(d_weight, [width]), &device))
}

/// The gradients of [`add_rms_norm`] with respect to either term `[rows, width]` and the weight `[width]`, from those with
/// respect to the `sum` as it is and to its norm, `dy`.
pub fn add_rms_norm_backward<B: Backend>(
    sum: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    eps: f64,
    d_sum: Tensor<B, 2>,
    dy: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    on_gpu!(B, bupo_gpu::add_rms_norm_backward(sum, weight, eps, d_sum, dy));
    let (dx, d_weight) = rms_norm_backward(sum, weight, eps, dy);
    (add(dx, &d_sum), d_weight)
}

/// Turns `dy` into the gradient with respect to `x`, and returns that with respect to the weight.
fn normalize_backward(x: &[f32], weight: &[f32], eps: f32, dy: &mut [f32]) -> Vec<f32> {
    let width = weight.len();
    let rows = task_rows(width);
    // Tasks depend on the row count alone and are summed in order, so the sum does not depend on the number of threads.
    let partial: Vec<Vec<f32>> = dy
        .par_chunks_mut(rows * width)
        .zip(x.par_chunks(rows * width))
        .map(|(dy, x)| {
            let mut d_weight = vec![0.0_f32; width];
            vectorized!({
                for (dy, x) in dy.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let inverse = inverse_root(x, eps);
                    let along = sum3(dy, weight, x, |dy, weight, x| dy * weight * x) * inverse * inverse / width as f32;
                    for (((dy, x), weight), d_weight) in dy.iter_mut().zip(x).zip(weight).zip(&mut d_weight) {
                        *d_weight += *dy * x * inverse;
                        *dy = (*dy * weight - x * along) * inverse;
                    }
                }
            });
            d_weight
        })
        .collect();
    let mut d_weight = vec![0.0; width];
    for partial in partial {
        d_weight.iter_mut().zip(partial).for_each(|(sum, part)| *sum += part);
    }
    d_weight
}

#[inline(always)]
fn inverse_root(row: &[f32], eps: f32) -> f32 {
    1.0 / (sum(row, |x| x * x) / row.len() as f32 + eps).sqrt()
}
