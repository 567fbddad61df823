//! Causal grouped-query attention of whole sequences, forward and backward.
//!
//! The CPU backend computes tile by tile in the cache and holds no score matrix in memory (online softmax, arXiv
//! 2205.14135); it uses a KV head for all query heads of its group without copying it.

mod host;
mod tensors;

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::host::{HostView, is_host_f32};
use host::Shape;

pub use tensors::{CausalTile, attention_tile, causal_tiles};

/// The result of [`attention`], with what its backward pass needs.
#[derive(Debug, Clone)]
pub struct AttentionOutput<B: Backend> {
    /// The values mixed by the attention weights, `[batch * seq, heads * head_dim]`.
    pub mixed: Tensor<B, 2>,
    /// `ln(sum(exp(scores)))` of each query, `[batch, heads, seq]`, on the CPU backend. `None` elsewhere, and of
    /// attention over a cache, which has no backward pass.
    pub log_sums: Option<Vec<f32>>,
}

/// The results of [`attention_backward`].
#[derive(Debug)]
pub struct AttentionGradient<B: Backend> {
    /// With respect to the queries, `[batch, heads, seq, head_dim]`.
    pub d_q: Tensor<B, 4>,
    /// With respect to the keys, `[batch, kv_heads, seq, head_dim]`.
    pub d_k: Tensor<B, 4>,
    /// With respect to the values, `[batch * seq, kv_heads * head_dim]`.
    pub d_v: Tensor<B, 2>,
}

/// `softmax(scale q k^T) v` with causal masking, of queries `[batch, heads, seq, head_dim]`, keys
/// `[batch, kv_heads, seq, head_dim]` and values `[batch * seq, kv_heads * head_dim]`. `tiles` are those of `seq`.
pub fn attention<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 2>,
    tiles: &[CausalTile<B>],
    scale: f64,
) -> AttentionOutput<B> {
    let shape = Shape::new(q.dims(), k.dims());
    if !is_host_f32(&q) {
        let mixed = tensors::attend(q, k, split(v, shape.batch, shape.head_dim), tiles, scale);
        return AttentionOutput { mixed: merge(mixed), log_sums: None };
    }
    let device = q.device();
    let [q, k] = [q, k].map(HostView::of);
    let (mixed, log_sums) = host::attend(&shape, q.values(), k.values(), HostView::of(v).values(), scale as f32);
    let mixed = Tensor::from_data(TensorData::new(mixed, shape.merged(shape.heads)), &device);
    AttentionOutput { mixed, log_sums: Some(log_sums) }
}

/// The gradients of [`attention`], from its result and the gradient `[batch * seq, heads * head_dim]` with respect to
/// that. Attention weights are recomputed.
pub fn attention_backward<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 2>,
    output: AttentionOutput<B>,
    d_mixed: Tensor<B, 2>,
    tiles: &[CausalTile<B>],
    scale: f64,
) -> AttentionGradient<B> {
    let shape = Shape::new(q.dims(), k.dims());
    let Some(log_sums) = output.log_sums else {
        let [v, d_mixed] = [v, d_mixed].map(|x| split(x, shape.batch, shape.head_dim));
        let (d_q, d_k, d_v) = tensors::attend_backward(q, k, v, d_mixed, tiles, scale);
        return AttentionGradient { d_q, d_k, d_v: merge(d_v) };
    };
    let device = q.device();
    let [q, k] = [q, k].map(HostView::of);
    let [v, mixed, d_mixed] = [v, output.mixed, d_mixed].map(HostView::of);
    let inputs = host::BackwardInputs {
        q: q.values(),
        k: k.values(),
        v: v.values(),
        mixed: mixed.values(),
        log_sums: &log_sums,
        d_mixed: d_mixed.values(),
    };
    let [d_q, d_k, d_v] = host::attend_backward(&shape, &inputs, scale as f32);
    AttentionGradient {
        d_q: Tensor::from_data(TensorData::new(d_q, shape.split(shape.heads)), &device),
        d_k: Tensor::from_data(TensorData::new(d_k, shape.split(shape.kv_heads)), &device),
        d_v: Tensor::from_data(TensorData::new(d_v, shape.merged(shape.kv_heads)), &device),
    }
}

/// `[batch * seq, heads * head_dim]` as `[batch, heads, seq, head_dim]`.
fn split<B: Backend>(x: Tensor<B, 2>, batch: usize, head_dim: usize) -> Tensor<B, 4> {
    let [rows, width] = x.dims();
    x.reshape([batch, rows / batch, width / head_dim, head_dim]).swap_dims(1, 2)
}

/// `[batch, heads, seq, head_dim]` as `[batch * seq, heads * head_dim]`.
fn merge<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 2> {
    let [batch, heads, seq, head_dim] = x.dims();
    x.swap_dims(1, 2).reshape([batch * seq, heads * head_dim])
}
