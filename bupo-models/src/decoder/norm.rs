//! RMS norm, with statistics in f32.

use bupo_core::kernels::{add_rms_norm, add_rms_norm_backward, rms_norm, rms_norm_backward};
use bupo_core::profile::{Part, timed};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};

use super::Gradients;

/// `y = x / sqrt(mean(x^2) + eps) * weight` over the last dimension.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// `[width]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// Normalises rows `[tokens, width]`.
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let device = x.device();
        timed::<B, _>(Part::Norms, &device, || rms_norm(x, self.weight.val(), self.eps))
    }

    /// `x + y`, and its norm.
    pub(crate) fn forward_of_sum(&self, x: Tensor<B, 2>, y: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let device = x.device();
        timed::<B, _>(Part::Norms, &device, || add_rms_norm(x, y, self.weight.val(), self.eps))
    }

    /// The gradient with respect to `x`, from that with respect to the result; adds the gradient of the weight.
    pub(crate) fn backward(&self, x: Tensor<B, 2>, dy: Tensor<B, 2>, gradients: &mut Gradients<B>) -> Tensor<B, 2> {
        let device = x.device();
        let (dx, d_weight) =
            timed::<B, _>(Part::Norms, &device, || rms_norm_backward(x, self.weight.val(), self.eps, dy));
        gradients.add(self.weight.id, d_weight);
        dx
    }
    /// The gradient with respect to either term of [`Self::forward_of_sum`], from those with respect to the `sum` as it is and
    /// to its norm; adds the gradient of the weight.
    pub(crate) fn backward_of_sum(
        &self,
        sum: Tensor<B, 2>,
        d_sum: Tensor<B, 2>,
        dy: Tensor<B, 2>,
        gradients: &mut Gradients<B>,
    ) -> Tensor<B, 2> {
        let device = sum.device();
        let back = || add_rms_norm_backward(sum, self.weight.val(), self.eps, d_sum, dy);
        let (dx, d_weight) = timed::<B, _>(Part::Norms, &device, back);
        gradients.add(self.weight.id, d_weight);
        dx
    }
}
