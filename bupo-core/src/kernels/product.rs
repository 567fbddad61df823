//! Products of activations and gradients.

use bupo_gemm::matrix_product;
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::host::{MatrixView, is_host_f32};

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

/// Whether a device's products of factors in bf16 can have results in f32.
pub fn widens_products<B: Backend>() -> bool {
    #[cfg(feature = "cuda")]
    return bupo_gpu::is_cuda::<B>();
    #[cfg(not(feature = "cuda"))]
    false
}
