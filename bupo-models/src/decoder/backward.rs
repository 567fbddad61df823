//! The way forward that remembers what the way back needs, and the way back.
//!
//! Gradients are written by hand: a layer keeps its input, its projections and what its output projections read, and computes
//! norms, rotations, attention weights and the gated unit again, which costs little and is a third of the memory.

use bupo_core::{CoreError, Norm, PolicySite, ResidualDecoder};
use burn::tensor::{DType, Int, Tensor, backend::Backend};

use super::attention::SavedAttention;
use super::feed_forward::SavedFeedForward;
use super::{Decoder, ForwardContext, Gradients};

/// A forward pass up to a policy's site, ready for the way back.
#[derive(Debug)]
pub struct SavedActivations<B: Backend> {
    tokens: Tensor<B, 2, Int>,
    context: ForwardContext<B>,
    layers: Vec<SavedLayer<B>>,
    part: Part,
    /// The state before the final norm, where the site has one.
    unnormed: Option<Tensor<B, 2>>,
    /// What the site says, `[batch * seq, hidden]`; after the final norm in f32.
    pub states: Tensor<B, 2>,
}

/// What a site reads of its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Attention,
    FeedForward,
}

/// What one layer keeps, all `[batch * seq, ..]`.
#[derive(Debug)]
struct SavedLayer<B: Backend> {
    resid_pre: Tensor<B, 2>,
    /// Nothing where the layer is run again on the way back.
    inside: Option<SavedLayerInner<B>>,
}

#[derive(Debug)]
struct SavedLayerInner<B: Backend> {
    attention: SavedAttention<B>,
    /// Nothing where the site reads the attention half alone.
    feed_forward: Option<(Tensor<B, 2>, SavedFeedForward<B>)>,
}

impl<B: Backend> Decoder<B> {
    /// Runs `tokens` `[batch, seq]` up to a site. With `recompute` a layer keeps its input alone and is run again on the way
    /// back: the same numbers for a third more work and a fraction of the memory.
    ///
    /// # Errors
    /// If the site is outside the model.
    pub fn forward_train(
        &self,
        tokens: Tensor<B, 2, Int>,
        site: PolicySite,
        norm: Norm,
        recompute: bool,
    ) -> Result<SavedActivations<B>, CoreError> {
        let depth = site.depth(self.num_layers())?;
        let part = match site {
            PolicySite::Full | PolicySite::Layer(_) => Part::Whole,
            PolicySite::Attn(_) => Part::Attention,
            PolicySite::Ffn(_) => Part::FeedForward,
        };
        let mut context = self.prefill_context(tokens.dims()[1]);
        let mut state = flat(self.embed(tokens.clone()));
        let mut layers = Vec::with_capacity(depth);
        for layer in 1..=depth {
            let part = if layer == depth { part } else { Part::Whole };
            let resid_pre = state.clone();
            let (output, inside) = self.forward_layer(layer, state, part, &mut context);
            layers.push(SavedLayer { resid_pre, inside: (!recompute).then_some(inside) });
            state = output;
        }
        let final_norm = site == PolicySite::Full || norm == Norm::Final;
        let (states, unnormed) =
            if final_norm { (self.norm.forward(state.clone().cast(DType::F32)), Some(state)) } else { (state, None) };
        Ok(SavedActivations { tokens, context, layers, part, unnormed, states })
    }

    /// One layer: what the stream, or the part of it that a site reads, is after it.
    fn forward_layer(
        &self,
        layer: usize,
        resid_pre: Tensor<B, 2>,
        part: Part,
        context: &mut ForwardContext<B>,
    ) -> (Tensor<B, 2>, SavedLayerInner<B>) {
        let weights = &self.layers[layer - 1];
        let input = weights.input_layernorm.forward(resid_pre.clone());
        let (attn_out, attention) = weights.self_attn.forward(layer, input, context);
        if part == Part::Attention {
            return (attn_out, SavedLayerInner { attention, feed_forward: None });
        }
        let resid_mid = resid_pre + attn_out;
        let (mlp_out, kept) = weights.mlp.forward(weights.post_attention_layernorm.forward(resid_mid.clone()));
        let output = if part == Part::FeedForward { mlp_out } else { resid_mid.clone() + mlp_out };
        (output, SavedLayerInner { attention, feed_forward: Some((resid_mid, kept)) })
    }

    /// Adds the gradients of all parameters that `saved.states` depend on, from the one with respect to those states
    /// `[batch * seq, hidden]`. Nothing above the site is touched.
    pub fn backward(&self, saved: SavedActivations<B>, d_states: Tensor<B, 2>, gradients: &mut Gradients<B>) {
        let SavedActivations { tokens, mut context, layers, part, unnormed, states } = saved;
        drop(states);
        let mut d = match unnormed {
            Some(state) => self.norm.backward(state, d_states, gradients),
            None => d_states.cast(self.compute_dtype.dtype()),
        };
        let depth = layers.len();
        for (index, kept) in layers.into_iter().enumerate().rev() {
            let layer = index + 1;
            let part = if layer == depth { part } else { Part::Whole };
            let SavedLayer { resid_pre, inside } = kept;
            let inside = inside.unwrap_or_else(|| self.forward_layer(layer, resid_pre.clone(), part, &mut context).1);
            d = self.layer_backward(layer, resid_pre, inside, part, d, &context, gradients);
        }
        self.embed_tokens.add_gradient(tokens, d, gradients);
    }

    #[allow(clippy::too_many_arguments)] // One layer's state, and where its gradients go.
    fn layer_backward(
        &self,
        layer: usize,
        resid_pre: Tensor<B, 2>,
        inside: SavedLayerInner<B>,
        part: Part,
        d_output: Tensor<B, 2>,
        context: &ForwardContext<B>,
        gradients: &mut Gradients<B>,
    ) -> Tensor<B, 2> {
        let weights = &self.layers[layer - 1];
        let d_mid = match inside.feed_forward {
            None => d_output,
            Some((resid_mid, kept)) => {
                let norm = &weights.post_attention_layernorm;
                let d_input = weights.mlp.backward(norm.forward(resid_mid.clone()), kept, d_output.clone(), gradients);
                let d_mid = norm.backward(resid_mid, d_input, gradients);
                if part == Part::Whole { d_mid + d_output } else { d_mid }
            }
        };
        let norm = &weights.input_layernorm;
        let input = norm.forward(resid_pre.clone());
        let d_input = weights.self_attn.backward(input, inside.attention, d_mid.clone(), context, gradients);
        let d_pre = norm.backward(resid_pre, d_input, gradients);
        // The attention's own policy is not of the stream that goes past it.
        if part == Part::Attention { d_pre } else { d_pre + d_mid }
    }
}

/// `[batch, seq, hidden]` as `[batch * seq, hidden]`.
fn flat<B: Backend>(states: Tensor<B, 3>) -> Tensor<B, 2> {
    states.flatten(0, 1)
}
