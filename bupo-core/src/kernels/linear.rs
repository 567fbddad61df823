//! Products with weights, and sums of large matrices.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::host::{Host, each_row, is_host_f32, transposed};
use crate::profile::{Part, timed};

/// `a + b` of large matrices, in place if `a` is not shared.
pub(crate) fn add<B: Backend>(a: Tensor<B, 2>, b: &Tensor<B, 2>) -> Tensor<B, 2> {
    if !is_host_f32(&a) {
        return a + b.clone();
    }
    let (device, width) = (a.device(), a.dims()[1]);
    let (mut sum, part) = (Host::take(a), Host::take(b.clone()));
    let part = part.values();
    each_row(sum.values_mut(), width, |row, sum| {
        sum.iter_mut().zip(&part[row * width..(row + 1) * width]).for_each(|(sum, part)| *sum += part);
    });
    sum.give(&device)
}

/// `x w^T` of `x` `[rows, in]` and a weight `[out, in]`, the layout of a checkpoint.
pub fn linear<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 2>) -> Tensor<B, 2> {
    let device = x.device();
    timed::<B, _>(Part::MatrixProducts, &device, || x.matmul(weight.transpose()))
}

/// The same weight, stored transposed on the CPU backend; unchanged on others.
///
/// A matrix product packs the weight's columns first. With few rows, as in decoding, packing takes longer than
/// multiplying; contiguous columns need no packing (measured with 128 rows: twice as fast).
pub fn pretransposed<B: Backend>(weight: Tensor<B, 2>) -> Tensor<B, 2> {
    if !is_host_f32(&weight) {
        return weight;
    }
    let ([rows, columns], device) = (weight.dims(), weight.device());
    let values = transposed(Host::take(weight).values(), rows, columns);
    Tensor::<B, 2>::from_data(TensorData::new(values, [columns, rows]), &device).transpose()
}
