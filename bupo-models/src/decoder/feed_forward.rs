//! The SwiGLU feed-forward.

use bupo_core::kernels::{swiglu, swiglu_backward, swiglu_joined};
use bupo_core::profile::{Part, timed};
use burn::module::Module;
use burn::tensor::{DType, Tensor, backend::Backend};

use super::{Gradients, Linear};

/// `down(silu(gate(x)) * up(x))`. Fields are named as in the checkpoint.
#[derive(Module, Debug)]
pub struct FeedForward<B: Backend> {
    /// `[intermediate, hidden]`.
    pub gate_proj: Linear<B>,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear<B>,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear<B>,
    /// Gate and up as one map, in place of the two, in a decoder that generates on a GPU.
    pub(crate) gate_up: Option<Linear<B>>,
}

/// The activations that the backward pass needs besides the input, `[tokens, intermediate]`.
#[derive(Debug, Clone)]
pub(crate) struct SavedFeedForward<B: Backend> {
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
}

impl<B: Backend> SavedFeedForward<B> {
    /// Rounded to a dtype.
    pub(crate) fn cast(self, dtype: DType) -> Self {
        Self { gate: self.gate.cast(dtype), up: self.up.cast(dtype) }
    }
}

impl<B: Backend> FeedForward<B> {
    /// The contribution to the stream, from the normed state `[tokens, hidden]`.
    pub(crate) fn contribution(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(gate_up) = &self.gate_up else { return self.forward(x).0 };
        let device = x.device();
        let joined = gate_up.forward(x);
        self.down_proj.forward(timed::<B, _>(Part::Gates, &device, || swiglu_joined(joined)))
    }

    /// [`Self::contribution`], with what the backward pass needs.
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> (Tensor<B, 2>, SavedFeedForward<B>) {
        let [gate, up] = Linear::forward_all([&self.gate_proj, &self.up_proj], x);
        let saved = SavedFeedForward { gate, up };
        let device = saved.up.device();
        let hidden = timed::<B, _>(Part::Gates, &device, || swiglu(saved.gate.clone(), saved.up.clone()));
        (self.down_proj.forward(hidden), saved)
    }

    /// The gradient with respect to the normed state `x`, from that with respect to the contribution.
    pub(crate) fn backward(
        &self,
        x: Tensor<B, 2>,
        saved: SavedFeedForward<B>,
        d_output: Tensor<B, 2>,
        gradients: &mut Gradients<B>,
    ) -> Tensor<B, 2> {
        let saved = saved.cast(x.dtype());
        let d_hidden = self.down_proj.input_gradient(d_output.clone());
        let device = x.device();
        let back = timed::<B, _>(Part::Gates, &device, || swiglu_backward(saved.gate, saved.up, d_hidden));
        self.down_proj.accumulate_gradients(back.hidden, d_output, gradients);
        self.gate_proj.backward(x.clone(), back.d_gate, gradients) + self.up_proj.backward(x, back.d_up, gradients)
    }
}
