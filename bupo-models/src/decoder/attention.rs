//! Grouped-query attention.

use bupo_core::kernels::{
    AttentionGradient, AttentionOutput, HeadGradients, HeadNorms, attention, attention_backward, heads_backward,
    rotated_heads,
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
    /// Queries, keys and values as one map, in place of the three, in a decoder that generates on a GPU.
    pub(crate) qkv: Option<Linear<B>>,
}

/// The activations that the backward pass needs besides the input, `[tokens, ..]`.
#[derive(Debug, Clone)]
pub(crate) struct SavedAttention<B: Backend> {
    /// Queries, keys and values before norm and rotation.
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    v: Tensor<B, 2>,
    /// The input of `o_proj`.
    mixed: Tensor<B, 2>,
    /// Of the rows that attention takes ([`AttentionOutput::log_sums`]).
    log_sums: Option<Vec<f32>>,
}

impl<B: Backend> Attention<B> {
    /// The contribution of layer `layer` (from 1) to the stream, from the normed state `[batch * seq, hidden]`.
    pub(crate) fn contribution(&self, layer: usize, x: Tensor<B, 2>, context: &mut ForwardContext<B>) -> Tensor<B, 2> {
        let (Some(qkv), Some(cache)) = (&self.qkv, &mut context.cache) else {
            return self.forward(layer, x, context).0;
        };
        let joined = qkv.forward(x);
        let norms = self.head_norms();
        self.o_proj.forward(cache.attend(layer, joined, None, norms.as_ref(), &context.table, self.scale()))
    }

    /// [`Self::contribution`], with what the backward pass needs.
    pub(crate) fn forward(
        &self,
        layer: usize,
        x: Tensor<B, 2>,
        context: &mut ForwardContext<B>,
    ) -> (Tensor<B, 2>, SavedAttention<B>) {
        let device = x.device();
        let [q, k, v] = match &self.qkv {
            Some(qkv) => self.apart(qkv.forward(x)),
            None => Linear::forward_all([&self.q_proj, &self.k_proj, &self.v_proj], x),
        };
        let (norms, scale) = (self.head_norms(), self.scale());
        let output = if let Some(cache) = &mut context.cache {
            let kv = Some([k.clone(), v.clone()]);
            let mixed = cache.attend(layer, q.clone(), kv, norms.as_ref(), &context.table, scale);
            AttentionOutput { mixed, log_sums: None }
        } else {
            let [q, k, v] = context.in_rows([&q, &k, &v]);
            let batch = q.dims()[0] / context.seq;
            let rotated = || rotated_heads(q, k, norms.as_ref(), &context.table, batch);
            let (queries, keys) = timed::<B, _>(Part::Norms, &device, rotated);
            if let Some(collected) = &mut context.collected {
                collected.push((keys.clone(), self.split(v.clone(), batch, context.seq)));
            }
            timed::<B, _>(Part::Attention, &device, || attention(queries, keys, v, &context.tiles, scale))
        };
        let (mixed, log_sums) = (context.out_of_rows(&output.mixed), output.log_sums);
        (self.o_proj.forward(mixed.clone()), SavedAttention { q, k, v, mixed, log_sums })
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
        let SavedAttention { q, k, v, mixed, log_sums } = saved;
        let d_mixed = self.o_proj.backward(mixed.clone(), d_output, gradients);
        let [q, k, v, mixed] = context.in_rows([&q, &k, &v, &mixed]);
        let output = AttentionOutput { mixed, log_sums };
        let d_mixed = context.gradient_in_rows(d_mixed);
        let batch = q.dims()[0] / context.seq;
        let device = x.device();
        let norms = self.head_norms();
        let rotated = || rotated_heads(q.clone(), k.clone(), norms.as_ref(), &context.table, batch);
        let (queries, keys) = timed::<B, _>(Part::Norms, &device, rotated);
        let AttentionGradient { d_q, d_k, d_v } = timed::<B, _>(Part::Attention, &device, || {
            attention_backward(queries, keys, v, output, d_mixed, &context.tiles, self.scale())
        });
        let back = || heads_backward(d_q, d_k, q, k, norms.as_ref(), &context.table);
        let HeadGradients { q: d_q, k: d_k, weights } = timed::<B, _>(Part::Norms, &device, back);
        if let (Some(q_norm), Some(k_norm), Some([d_q_norm, d_k_norm])) = (&self.q_norm, &self.k_norm, weights) {
            gradients.add(q_norm.weight.id, d_q_norm);
            gradients.add(k_norm.weight.id, d_k_norm);
        }
        // A token's queries are read in its first place alone, its keys and values in all of them.
        let d_q = context.out_of_rows(&d_q);
        let [d_k, d_v] = [d_k, d_v].map(|d| context.gradient_from_rows(d));
        self.q_proj.backward(x.clone(), d_q, gradients)
            + self.k_proj.backward(x.clone(), d_k, gradients)
            + self.v_proj.backward(x, d_v, gradients)
    }

    fn scale(&self) -> f64 {
        (self.head_dim as f64).powf(-0.5)
    }

    /// Queries, keys and values, from rows that have the three one after another.
    fn apart(&self, joined: Tensor<B, 2>) -> [Tensor<B, 2>; 3] {
        let (q, all) = (self.o_proj.weight.dims()[1], joined.dims()[1]);
        let kv = (all - q) / 2;
        [(0, q), (q, kv), (q + kv, kv)].map(|(start, width)| joined.clone().narrow(1, start, width))
    }

    fn head_norms(&self) -> Option<HeadNorms<B>> {
        let (q, k) = (self.q_norm.as_ref()?, self.k_norm.as_ref()?);
        Some(HeadNorms { q: q.weight.val(), k: k.weight.val(), eps: q.eps })
    }

    /// `[batch * seq, heads * head_dim]` as `[batch, heads, seq, head_dim]`.
    fn split(&self, x: Tensor<B, 2>, batch: usize, seq: usize) -> Tensor<B, 4> {
        let heads = x.dims()[1] / self.head_dim;
        x.reshape([batch, seq, heads, self.head_dim]).swap_dims(1, 2)
    }
}
