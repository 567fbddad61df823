//! The SwiGLU feed-forward.

use burn::module::Module;
use burn::tensor::{Tensor, activation::silu, backend::Backend};

use super::Linear;

/// `down(silu(gate(x)) * up(x))`. Fields are named as in the checkpoint.
#[derive(Module, Debug)]
pub struct FeedForward<B: Backend> {
    /// `[intermediate, hidden]`.
    pub gate_proj: Linear<B>,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear<B>,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear<B>,
}

impl<B: Backend> FeedForward<B> {
    /// The contribution to the stream, from the normed state.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.down_proj.forward(silu(self.gate_proj.forward(x.clone())) * self.up_proj.forward(x))
    }
}
