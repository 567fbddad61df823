//! Grouped-query attention.

use bupo_core::kernels::{
    CausalTile, RopeTable, apply_rope, apply_rope_backward, causal_softmax, rms_norm, rms_norm_backward,
    softmax_backward,
};
use bupo_core::profile::{Part, timed};
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::{ForwardContext, Gradients, Linear, RmsNorm};

/// Causal grouped-query self-attention. Fields are named as in the checkpoint.
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
    /// Norm of each query head, in Qwen3.
    pub q_norm: Option<RmsNorm<B>>,
    /// Norm of each key head, in Qwen3.
    pub k_norm: Option<RmsNorm<B>>,
    /// Width of a head.
    pub head_dim: usize,
}

/// The activations that the backward pass needs besides the input, all `[batch * seq, ..]`.
#[derive(Debug, Clone)]
pub(crate) struct SavedAttention<B: Backend> {
    /// Queries, keys and values before norm and rotation.
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    v: Tensor<B, 2>,
    /// The input of `o_proj`.
    mixed: Tensor<B, 2>,
}

impl<B: Backend> Attention<B> {
    /// The contribution of layer `layer` (from 1) to the stream, from the normed state `[batch * seq, hidden]`.
    pub(crate) fn forward(
        &self,
        layer: usize,
        x: Tensor<B, 2>,
        context: &mut ForwardContext<B>,
    ) -> (Tensor<B, 2>, SavedAttention<B>) {
        let batch = x.dims()[0] / context.seq;
        let [q, k, v] = [&self.q_proj, &self.k_proj, &self.v_proj].map(|projection| projection.forward(x.clone()));
        let device = x.device();
        let (queries, keys) = timed::<B, _>(Part::Norms, &device, || self.rotated(&q, &k, &context.table, batch));
        let values = self.split(v.clone(), batch, context.seq);
        let scale = self.scale();
        let mixed = match &mut context.cache {
            Some(cache) => timed::<B, _>(Part::Cache, &device, || cache.attend(layer, queries, keys, values, scale)),
            None => {
                if let Some(collected) = &mut context.collected {
                    collected.push((keys.clone(), values.clone()));
                }
                timed::<B, _>(Part::Attention, &device, || merge(attend(queries, keys, values, &context.tiles, scale)))
            }
        };
        (self.o_proj.forward(mixed.clone()), SavedAttention { q, k, v, mixed })
    }

    /// The gradient with respect to the normed state `x`, from that with respect to the contribution.
    pub(crate) fn backward(
        &self,
        x: Tensor<B, 2>,
        saved: SavedAttention<B>,
        d_output: Tensor<B, 2>,
        context: &ForwardContext<B>,
        gradients: &mut Gradients<B>,
    ) -> Tensor<B, 2> {
        let SavedAttention { q, k, v, mixed } = saved;
        let batch = x.dims()[0] / context.seq;
        let d_mixed = self.o_proj.backward(mixed, d_output, gradients);
        let device = x.device();
        let (queries, keys) = timed::<B, _>(Part::Norms, &device, || self.rotated(&q, &k, &context.table, batch));
        let values = self.split(v, batch, context.seq);
        let d_mixed = self.split(d_mixed, batch, context.seq);
        let (d_queries, d_keys, d_values) = timed::<B, _>(Part::Attention, &device, || {
            attend_backward(queries, keys, values, d_mixed, &context.tiles, self.scale())
        });
        let unrotated = |d: Tensor<B, 4>, norm: Option<&RmsNorm<B>>, raw, gradients: &mut Gradients<B>| {
            let d = apply_rope_backward(d, &context.table);
            match norm {
                Some(norm) => self.head_norm_backward(norm, raw, d, gradients),
                None => d,
            }
        };
        let (d_q, d_k) = timed::<B, _>(Part::Norms, &device, || {
            let d_q = unrotated(d_queries, self.q_norm.as_ref(), q, gradients);
            (d_q, unrotated(d_keys, self.k_norm.as_ref(), k, gradients))
        });
        let d_v = merge(d_values);
        self.q_proj.backward(x.clone(), d_q, gradients)
            + self.k_proj.backward(x.clone(), d_k, gradients)
            + self.v_proj.backward(x, d_v, gradients)
    }

    fn scale(&self) -> f64 {
        (self.head_dim as f64).powf(-0.5)
    }

    /// Queries and keys after the head norms and rotation, `[batch, heads, seq, head_dim]`.
    fn rotated(
        &self,
        q: &Tensor<B, 2>,
        k: &Tensor<B, 2>,
        table: &RopeTable<B>,
        batch: usize,
    ) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let rotated = |x: &Tensor<B, 2>, norm: Option<&RmsNorm<B>>| {
            let x = match norm {
                Some(norm) => self.by_head(x.clone(), |heads| rms_norm(heads, norm.weight.val(), norm.eps)),
                None => x.clone(),
            };
            apply_rope(x, table, batch, self.head_dim)
        };
        (rotated(q, self.q_norm.as_ref()), rotated(k, self.k_norm.as_ref()))
    }

    fn head_norm_backward(
        &self,
        norm: &RmsNorm<B>,
        x: Tensor<B, 2>,
        d: Tensor<B, 2>,
        gradients: &mut Gradients<B>,
    ) -> Tensor<B, 2> {
        let [rows, width] = x.dims();
        let heads = [rows * width / self.head_dim, self.head_dim];
        let (d_x, d_weight) = rms_norm_backward(x.reshape(heads), norm.weight.val(), norm.eps, d.reshape(heads));
        gradients.add(norm.weight.id, d_weight);
        d_x.reshape([rows, width])
    }

    /// Applies `f` to `x` `[rows, heads * head_dim]` with one row per head.
    fn by_head(&self, x: Tensor<B, 2>, f: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>) -> Tensor<B, 2> {
        let [rows, width] = x.dims();
        f(x.reshape([rows * width / self.head_dim, self.head_dim])).reshape([rows, width])
    }

    /// `[batch * seq, heads * head_dim]` as `[batch, heads, seq, head_dim]`.
    fn split(&self, x: Tensor<B, 2>, batch: usize, seq: usize) -> Tensor<B, 4> {
        let heads = x.dims()[1] / self.head_dim;
        x.reshape([batch, seq, heads, self.head_dim]).swap_dims(1, 2)
    }
}

/// `[batch, heads, seq, head_dim]` as `[batch * seq, heads * head_dim]`.
fn merge<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 2> {
    let [batch, heads, seq, head_dim] = x.dims();
    x.swap_dims(1, 2).reshape([batch * seq, heads * head_dim])
}

/// Queries as `[batch, kv_heads, group, seq, head_dim]`, keys or values as `[batch, kv_heads, 1, seq, head_dim]`, so
/// that products broadcast a KV head over its group.
fn grouped<B: Backend>(x: Tensor<B, 4>, kv_heads: usize) -> Tensor<B, 5> {
    let [batch, heads, seq, head_dim] = x.dims();
    if heads == kv_heads { x.unsqueeze_dim(2) } else { x.reshape([batch, kv_heads, heads / kv_heads, seq, head_dim]) }
}

/// `softmax(scale q k^T) v` for whole sequences, with causal masking.
///
/// `q` is `[batch, heads, seq, head_dim]`; `k` and `v` are `[batch, kv_heads, seq, head_dim]`.
fn attend<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    tiles: &[CausalTile<B>],
    scale: f64,
) -> Tensor<B, 4> {
    let ([batch, heads, seq, head_dim], kv_heads) = (q.dims(), k.dims()[1]);
    let [q, k, v] = [q, k, v].map(|x| grouped(x, kv_heads));
    let mixed = tiles.iter().map(|tile| {
        let seen = |x: &Tensor<B, 5>| x.clone().narrow(3, 0, tile.queries.end);
        let scores = of(tile, &q).matmul(seen(&k).transpose());
        causal_softmax(scores, tile, scale).matmul(seen(&v))
    });
    Tensor::cat(mixed.collect(), 3).reshape([batch, heads, seq, head_dim])
}

/// The gradients with respect to `q`, `k` and `v` of [`attend`]; attention weights are recomputed tile by tile.
fn attend_backward<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    d_mixed: Tensor<B, 4>,
    tiles: &[CausalTile<B>],
    scale: f64,
) -> (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) {
    let ([batch, heads, seq, head_dim], kv_heads) = (q.dims(), k.dims()[1]);
    let [q, k, v, d_mixed] = [q, k, v, d_mixed].map(|x| grouped(x, kv_heads));
    let (mut d_q, mut d_k, mut d_v) = (Vec::new(), None, None);
    // From the last tile on, so that the sums for keys and values have their full length from the start.
    for tile in tiles.iter().rev() {
        let seen = |x: &Tensor<B, 5>| x.clone().narrow(3, 0, tile.queries.end);
        let weights = causal_softmax(of(tile, &q).matmul(seen(&k).transpose()), tile, scale);
        let d_weights = of(tile, &d_mixed).matmul(seen(&v).transpose());
        add_to(&mut d_v, weights.clone().transpose().matmul(of(tile, &d_mixed)).sum_dim(2));
        let d_scores = softmax_backward(weights, d_weights, scale);
        d_q.push(d_scores.clone().matmul(seen(&k)));
        add_to(&mut d_k, d_scores.transpose().matmul(of(tile, &q)).sum_dim(2));
    }
    d_q.reverse();
    let shared =
        |d: Option<Tensor<B, 5>>| d.unwrap_or_else(|| k.zeros_like()).reshape([batch, kv_heads, seq, head_dim]);
    (Tensor::cat(d_q, 3).reshape([batch, heads, seq, head_dim]), shared(d_k), shared(d_v))
}

/// The part of `x` `[.., seq, ..]` at the queries of a tile.
fn of<B: Backend>(tile: &CausalTile<B>, x: &Tensor<B, 5>) -> Tensor<B, 5> {
    x.clone().narrow(3, tile.queries.start, tile.queries.len())
}

/// Adds `part` to the first positions of `sum`.
fn add_to<B: Backend>(sum: &mut Option<Tensor<B, 5>>, part: Tensor<B, 5>) {
    let [batch, kv_heads, group, seen, head_dim] = part.dims();
    *sum = Some(match sum.take() {
        None => part,
        Some(sum) => {
            let range = [0..batch, 0..kv_heads, 0..group, 0..seen, 0..head_dim];
            let part = part + sum.clone().slice(range.clone());
            sum.slice_assign(range, part)
        }
    });
}
