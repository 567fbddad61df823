//! Sums of squares in an order that depends on the number of values only.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use super::host::{HostView, is_host_f32, sum, vectorized};
use super::on_gpu;

/// Values of one partial sum.
const BLOCK: usize = 1 << 14;

/// The sum of the squares of all `tensors`, added in f64 in their order.
pub fn sum_of_all_squares<B: Backend>(tensors: Vec<Tensor<B, 1>>) -> f64 {
    on_gpu!(B, bupo_gpu::sum_of_squares(tensors));
    if tensors.is_empty() {
        return 0.0;
    }
    let squares = tensors.into_iter().map(sum_of_squares).collect();
    Tensor::cat(squares, 0).into_data().iter::<f64>().sum()
}

/// The sum of the squares of `values`, `[1]`.
///
/// Partial sums are over blocks of a fixed size and are added in order, so the result is the same for any number of
/// threads. A tensor's own `sum` is not: on the CPU it adds partial sums of large tensors in the order of work
/// stealing.
pub fn sum_of_squares<B: Backend>(values: Tensor<B, 1>) -> Tensor<B, 1> {
    let (count, device) = (values.dims()[0], values.device());
    if !is_host_f32(&values) {
        let squares = values.square();
        let whole = count / BLOCK * BLOCK;
        let total = |rows: Tensor<B, 1>, width: usize| rows.reshape([-1, width as i32]).sum_dim(1).flatten::<1>(0, 1);
        let mut sums = Vec::new();
        if whole > 0 {
            let blocks = total(squares.clone().narrow(0, 0, whole), BLOCK);
            sums.push(total(blocks, whole / BLOCK));
        }
        if whole < count {
            sums.push(total(squares.narrow(0, whole, count - whole), count - whole));
        }
        return sums.into_iter().reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros([1], &device));
    }
    let total = blockwise(HostView::of(values).values());
    Tensor::from_data(TensorData::new(vec![total as f32], [1]), &device)
}

fn blockwise(values: &[f32]) -> f64 {
    let blocks = values.par_chunks(BLOCK);
    let partial: Vec<f32> = blocks.map(|block| vectorized!(sum(block, |x| x * x))).collect();
    partial.into_iter().map(f64::from).sum()
}
