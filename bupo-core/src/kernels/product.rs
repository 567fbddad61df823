//! Products of activations and gradients.

use bupo_gemm::{add_matrix_product, matrix_product};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::host::{Host, MatrixView, is_host_f32};

/// `lhs rhs` of matrices or of batches of them, in `dtype`. Where that is wider than theirs, sums are not rounded to the narrower
/// one if the device [`widens_products`].
pub fn matmul<B: Backend, const D: usize>(lhs: Tensor<B, D>, rhs: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    #[cfg(feature = "cuda")]
    if bupo_gpu::is_cuda::<B>() {
        return bupo_gpu::matmul(lhs, rhs, dtype);
    }
    if D == 2 && dtype == DType::F32 && is_host_f32(&lhs) && is_host_f32(&rhs) {
        let (size, device) = ([lhs.dims()[0], lhs.dims()[1], rhs.dims()[1]], lhs.device());
        let (lhs, rhs) = (MatrixView::of(lhs), MatrixView::of(rhs));
        let product = matrix_product(size, lhs.strided(), rhs.strided());
        return Tensor::from_data(TensorData::new(product, [size[0], size[2]]), &device);
    }
    lhs.matmul(rhs).cast(dtype)
}

/// `sum` in f32, with `lhs rhs` added to its rows from `first` on. `is_zero`: whether these are 0, so that a device need not add. On the
/// CPU backend in place, if nobody else holds the sum.
pub(crate) fn add_product<B: Backend>(
    sum: Tensor<B, 2>,
    first: usize,
    lhs: Tensor<B, 2>,
    rhs: Tensor<B, 2>,
    is_zero: bool,
) -> Tensor<B, 2> {
    let ([count, inner], [_, columns]) = (lhs.dims(), rhs.dims());
    let rows = first..first + count;
    if is_host_f32(&sum) && is_host_f32(&lhs) && is_host_f32(&rhs) {
        let (lhs, rhs, device) = (MatrixView::of(lhs), MatrixView::of(rhs), sum.device());
        let mut sum = Host::take(sum);
        let changed = &mut sum.values_mut()[rows.start * columns..rows.end * columns];
        add_matrix_product([count, inner, columns], lhs.strided(), rhs.strided(), changed);
        return sum.give(&device);
    }
    let mut product = matmul(lhs, rhs, DType::F32);
    if !is_zero {
        product = product + sum.clone().slice([rows.clone()]);
    }
    sum.slice_assign([rows], product)
}

/// Whether a device's products of factors in bf16 can have results in f32.
pub fn widens_products<B: Backend>() -> bool {
    #[cfg(feature = "cuda")]
    return bupo_gpu::is_cuda::<B>();
    #[cfg(not(feature = "cuda"))]
    false
}
