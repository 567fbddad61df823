//! Products of activations and gradients.

use burn::tensor::{DType, Tensor, backend::Backend};

/// `lhs rhs` of matrices or of batches of them, in `dtype`. Where that is wider than theirs, sums are not rounded to the narrower
/// one if the device [`widens_products`].
pub fn matmul<B: Backend, const D: usize>(lhs: Tensor<B, D>, rhs: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    #[cfg(feature = "cuda")]
    if bupo_gpu::is_cuda::<B>() {
        return bupo_gpu::matmul(lhs, rhs, dtype);
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
