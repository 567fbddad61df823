//! Parameters as Hugging Face stores them, and the two modules made of one matrix.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, backend::Backend};

/// `y = x W^T + b` with `W` `[out, in]`, the layout of a checkpoint.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

/// A table of token embeddings.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[vocab, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> Linear<B> {
    /// Applies the map to the last dimension of `[batch, seq, in]`.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, seq, input] = x.dims();
        // One matrix product over all tokens: a batched product would be slower and so would its gradient.
        let y = x.reshape([batch * seq, input]).matmul(self.weight.val().transpose());
        let y = match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        };
        let output = y.dims()[1];
        y.reshape([batch, seq, output])
    }
}

impl<B: Backend> Embedding<B> {
    /// Looks up `[batch, seq]` ids.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [batch, seq] = tokens.dims();
        let rows = self.weight.val().select(0, tokens.flatten::<1>(0, 1));
        let hidden = rows.dims()[1];
        rows.reshape([batch, seq, hidden])
    }
}
