//! Products with weights, and sums of large matrices.

use bupo_gemm::products;
use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::host::{Host, HostView, WeightView, each_row, is_host_f32};
use super::product::matmul;
use crate::profile::{Part, timed};

/// `a + b` of large matrices, in place if `a` is not shared.
pub(crate) fn add<B: Backend>(a: Tensor<B, 2>, b: &Tensor<B, 2>) -> Tensor<B, 2> {
    if !is_host_f32(&a) {
        return a + b.clone();
    }
    let (device, width) = (a.device(), a.dims()[1]);
    let (mut sum, part) = (Host::take(a), HostView::of(b.clone()));
    add_to(sum.values_mut(), part.values(), width);
    sum.give(&device)
}

fn add_to(sum: &mut [f32], part: &[f32], width: usize) {
    each_row(
        sum,
        width,
        #[inline(always)]
        |row, sum| {
            sum.iter_mut().zip(&part[row * width..(row + 1) * width]).for_each(|(sum, part)| *sum += part);
        },
    );
}

/// `x w^T` of `x` `[rows, in]` and a weight `[out, in]`, the layout of a checkpoint.
///
/// On the CPU backend a weight in bf16 is multiplied by f32 rows, with sums in f32, and each row of the result has the same bits
/// whatever the other rows are.
pub fn linear<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 2>) -> Tensor<B, 2> {
    let [product] = linears(x, [weight]);
    product
}

/// [`linear`] of one `x` and several weights, which the CPU backend multiplies it by together.
pub fn linears<B: Backend, const N: usize>(x: Tensor<B, 2>, weights: [Tensor<B, 2>; N]) -> [Tensor<B, 2>; N] {
    let device = x.device();
    timed::<B, _>(Part::MatrixProducts, &device, || multiplied(x, weights))
}

/// [`linears`] of many rows, faster on the CPU backend, where the rounding of a row's sums depends on the number of rows.
pub fn linears_of_many_rows<B: Backend, const N: usize>(
    x: Tensor<B, 2>,
    weights: [Tensor<B, 2>; N],
) -> [Tensor<B, 2>; N] {
    let device = x.device();
    if weights.iter().any(|weight| weight.dtype() != x.dtype()) {
        // In bf16, of which products with rows in f32 are those of `linears`.
        return linears(x, weights);
    }
    let dtype = x.dtype();
    timed::<B, _>(Part::MatrixProducts, &device, || weights.map(|weight| matmul(x.clone(), weight.transpose(), dtype)))
}

fn multiplied<B: Backend, const N: usize>(x: Tensor<B, 2>, weights: [Tensor<B, 2>; N]) -> [Tensor<B, 2>; N] {
    let ([rows, inner], device) = (x.dims(), x.device());
    if !is_host_f32(&x) || inner == 0 {
        let dtype = x.dtype();
        return weights.map(|weight| matmul(x.clone(), weight.transpose(), dtype));
    }
    let outs = weights.each_ref().map(|weight| weight.dims()[0]);
    let (x, weights) = (HostView::of(x), weights.map(WeightView::of));
    let mut results = products(x.values(), inner, &weights.each_ref().map(WeightView::weights)).into_iter();
    outs.map(|out| Tensor::from_data(TensorData::new(results.next().unwrap_or_default(), [rows, out]), &device))
}
