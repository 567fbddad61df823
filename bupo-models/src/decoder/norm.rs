//! Root-mean-square norm, its statistics in f32 whatever the weights' dtype.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, backend::Backend};

/// `y = x / sqrt(mean(x^2) + eps) * weight` over the last dimension.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// `[width]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Keeps the root away from zero.
    pub eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// Norms the last dimension of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let root = x.clone().square().mean_dim(D - 1).add_scalar(self.eps).sqrt();
        (x / root).cast(dtype) * self.weight.val().unsqueeze()
    }
}
