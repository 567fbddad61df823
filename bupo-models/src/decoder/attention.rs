//! Grouped-query attention.

use burn::module::Module;
use burn::tensor::{DType, Tensor, activation::softmax, backend::Backend};

use super::{Linear, Pass, RmsNorm};

/// Causal self-attention with fewer key and value heads than query heads. Fields are named as in the checkpoint.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `[heads * head_dim, hidden]`.
    pub q_proj: Linear<B>,
    /// `[kv_heads * head_dim, hidden]`.
    pub k_proj: Linear<B>,
    /// `[kv_heads * head_dim, hidden]`.
    pub v_proj: Linear<B>,
    /// `[hidden, heads * head_dim]`.
    pub o_proj: Linear<B>,
    /// Qwen3's norm on each query head.
    pub q_norm: Option<RmsNorm<B>>,
    /// Qwen3's norm on each key head.
    pub k_norm: Option<RmsNorm<B>>,
    /// Width of a head.
    pub head_dim: usize,
}

impl<B: Backend> Attention<B> {
    /// The contribution of layer `layer` (from 1) to the stream, from the normed state `[batch, seq, hidden]`.
    pub fn forward(&self, layer: usize, x: Tensor<B, 3>, pass: &mut Pass<B>) -> Tensor<B, 3> {
        let [batch, seq, _] = x.dims();
        let q = self.heads(&self.q_proj, self.q_norm.as_ref(), x.clone());
        let k = self.heads(&self.k_proj, self.k_norm.as_ref(), x.clone());
        let v = self.heads(&self.v_proj, None, x);
        let q = pass.q_rotation.apply(q) * (self.head_dim as f64).powf(-0.5);
        let k = pass.k_rotation.apply(k);
        let (k, v) = match &mut pass.cache {
            Some(cache) => cache.extend(layer, k, v),
            None => (k, v),
        };
        let mixed = attend(q, k, v, pass.mask.clone());
        let width = mixed.dims()[1] * self.head_dim;
        self.o_proj.forward(mixed.swap_dims(1, 2).reshape([batch, seq, width]))
    }

    /// Projects, splits into heads `[batch, heads, seq, head_dim]` and norms each.
    fn heads(&self, projection: &Linear<B>, norm: Option<&RmsNorm<B>>, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let [batch, seq, _] = x.dims();
        let y = projection.forward(x);
        let heads = y.dims()[2] / self.head_dim;
        let y = y.reshape([batch, seq, heads, self.head_dim]);
        let y = match norm {
            Some(norm) => norm.forward(y),
            None => y,
        };
        y.swap_dims(1, 2)
    }
}

/// `softmax(q k^T + mask) v`, the query heads of a group sharing their key head without repeating it.
///
/// `q` is `[batch, heads, seq, head_dim]` and scaled; `k`, `v` are `[batch, kv_heads, slots, head_dim]`; `mask`
/// is `[1 or batch * heads, seq * slots]`.
fn attend<B: Backend>(q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>, mask: Option<Tensor<B, 2>>) -> Tensor<B, 4> {
    let [batch, heads, seq, head_dim] = q.dims();
    let [_, kv_heads, slots, _] = k.dims();
    let dtype = q.dtype();
    let grouped = heads / kv_heads * seq;
    let scores = q.reshape([batch, kv_heads, grouped, head_dim]).matmul(k.transpose()).cast(DType::F32);
    let scores = match mask {
        Some(mask) => (scores.reshape([batch * heads, seq * slots]) + mask).reshape([batch, kv_heads, grouped, slots]),
        None => scores,
    };
    let weights = softmax(scores, 3).cast(dtype);
    weights.matmul(v).reshape([batch, heads, seq, head_dim])
}
