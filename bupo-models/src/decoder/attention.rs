//! Grouped-query attention.

use bupo_core::kernels::{
    AttentionGradient, AttentionOutput, RopeTable, apply_rope, apply_rope_backward, attention, attention_backward,
    rms_norm, rms_norm_backward,
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
    /// Its `mixed` is the input of `o_proj`.
    output: AttentionOutput<B>,
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
        let device = x.device();
        let [q, k, v] = Linear::forward_all([&self.q_proj, &self.k_proj, &self.v_proj], x);
        let (queries, keys) = timed::<B, _>(Part::Norms, &device, || self.rotated(&q, &k, &context.table, batch));
        let scale = self.scale();
        let output = if let Some(cache) = &mut context.cache {
            let values = self.split(v.clone(), batch, context.seq);
            let attend = || cache.attend(layer, queries, keys, values, scale);
            AttentionOutput { mixed: timed::<B, _>(Part::Cache, &device, attend), log_sums: None }
        } else {
            if let Some(collected) = &mut context.collected {
                collected.push((keys.clone(), self.split(v.clone(), batch, context.seq)));
            }
            timed::<B, _>(Part::Attention, &device, || attention(queries, keys, v.clone(), &context.tiles, scale))
        };
        (self.o_proj.forward(output.mixed.clone()), SavedAttention { q, k, v, output })
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
        let SavedAttention { q, k, v, output } = saved;
        let batch = x.dims()[0] / context.seq;
        let d_mixed = self.o_proj.backward(output.mixed.clone(), d_output, gradients);
        let device = x.device();
        let (queries, keys) = timed::<B, _>(Part::Norms, &device, || self.rotated(&q, &k, &context.table, batch));
        let AttentionGradient { d_q, d_k, d_v } = timed::<B, _>(Part::Attention, &device, || {
            attention_backward(queries, keys, v, output, d_mixed, &context.tiles, self.scale())
        });
        let unrotated = |d: Tensor<B, 4>, norm: Option<&RmsNorm<B>>, raw, gradients: &mut Gradients<B>| {
            let d = apply_rope_backward(d, &context.table);
            match norm {
                Some(norm) => self.head_norm_backward(norm, raw, d, gradients),
                None => d,
            }
        };
        let (d_q, d_k) = timed::<B, _>(Part::Norms, &device, || {
            let d_q = unrotated(d_q, self.q_norm.as_ref(), q, gradients);
            (d_q, unrotated(d_k, self.k_norm.as_ref(), k, gradients))
        });
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
