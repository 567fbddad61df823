//! The forward pass that saves activations, and the backward pass.
//!
//! Gradients are written by hand. A layer saves its input, its projections and the inputs of its output projections;
//! norms, rotations, attention weights and SwiGLU are recomputed, which costs little and takes a third of the memory.

use bupo_core::{CoreError, Norm, PolicySite, ResidualDecoder};
use burn::tensor::{Int, Tensor, backend::Backend};

use super::attention::SavedAttention;
use super::feed_forward::SavedFeedForward;
use super::{Decoder, ForwardContext, Gradients};

/// The activations of a forward pass up to a policy site, for its backward pass.
#[derive(Debug)]
pub struct SavedActivations<B: Backend> {
    tokens: Tensor<B, 2, Int>,
    context: ForwardContext<B>,
    /// From the lowest that is trained to that of the site.
    layers: Vec<SavedLayer<B>>,
    /// The layer of the site, from 1.
    depth: usize,
    part: Part,
    norm: Norm,
    /// The state before the norm; `None` if the site has none.
    unnormed: Option<Tensor<B, 2>>,
    /// The states of the site, `[batch * seq, hidden]`; in f32 after the final norm.
    pub states: Tensor<B, 2>,
}

/// The gradient of a loss with respect to the states of a layer's policy.
#[derive(Debug, Clone)]
pub struct LayerGradient<B: Backend> {
    /// The layer, from 1, not above the site of the forward pass.
    pub layer: usize,
    /// The norm of the states.
    pub norm: Norm,
    /// `[batch * seq, hidden]`.
    pub d_states: Tensor<B, 2>,
}

/// The part of its layer that a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Attention,
    FeedForward,
}

/// The activations that one layer saves, all `[batch * seq, ..]`.
#[derive(Debug)]
struct SavedLayer<B: Backend> {
    resid_pre: Tensor<B, 2>,
    /// `None` if the layer is recomputed in the backward pass.
    inside: Option<SavedLayerInner<B>>,
}

#[derive(Debug)]
struct SavedLayerInner<B: Backend> {
    attention: SavedAttention<B>,
    /// `None` if the site is the attention half.
    feed_forward: Option<(Tensor<B, 2>, SavedFeedForward<B>)>,
}

impl<B: Backend> SavedActivations<B> {
    /// The stream after a layer, `[batch * seq, hidden]`; `None` for layers that were not run, were not saved, or whose output is only
    /// a part of it.
    fn resid_post(&self, layer: usize) -> Option<Tensor<B, 2>> {
        if layer == self.depth {
            let state = self.unnormed.as_ref().unwrap_or(&self.states);
            return (self.part == Part::Whole).then(|| state.clone());
        }
        let next = (layer + self.layers.len()).checked_sub(self.depth)?;
        self.layers.get(next).map(|next| next.resid_pre.clone())
    }
}

impl<B: Backend> Decoder<B> {
    /// Runs `tokens` `[batch, seq]` of a pass without a cache up to a site. With `recompute` a layer saves its input only and is run again in the
    /// backward pass: the same numbers for a third more work and a fraction of the memory (activation checkpointing). Layers below
    /// the lowest trained one save nothing.
    ///
    /// # Errors
    /// If the site is outside the model, or the norm is [`Norm::Tuned`] and the decoder has no tuned lens.
    pub fn forward_train(
        &self,
        tokens: Tensor<B, 2, Int>,
        mut context: ForwardContext<B>,
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
        let mut state = flat(self.embed(tokens.clone()));
        let lowest = self.lowest_trained();
        let mut layers = Vec::with_capacity((depth + 1).saturating_sub(lowest));
        for layer in 1..=depth {
            let part = if layer == depth { part } else { Part::Whole };
            let resid_pre = state.clone();
            let (output, inside) = self.forward_layer(layer, state, part, &mut context);
            if layer >= lowest {
                layers.push(SavedLayer { resid_pre, inside: (!recompute).then_some(inside) });
            }
            state = output;
        }
        let norm = norm.of_site(site);
        let unnormed = (norm != Norm::None).then(|| state.clone());
        let states = self.normed_rows(depth, norm, state)?;
        Ok(SavedActivations { tokens, context, layers, depth, part, norm, unnormed, states })
    }

    /// Runs one layer; returns the stream after it, or the part that is the site, and the saved activations.
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
        let (resid_mid, input) = weights.post_attention_layernorm.forward_of_sum(resid_pre, attn_out);
        let (mlp_out, saved) = weights.mlp.forward(input);
        let output = if part == Part::FeedForward { mlp_out } else { resid_mid.clone() + mlp_out };
        (output, SavedLayerInner { attention, feed_forward: Some((resid_mid, saved.cast(self.saved_dtype()))) })
    }

    /// Adds the gradients of all trained parameters that `saved.states` depend on, from the gradient with respect to those
    /// states `[batch * seq, hidden]`. Parameters above the site get no gradient.
    pub fn backward(&self, saved: SavedActivations<B>, d_states: Tensor<B, 2>, gradients: &mut Gradients<B>) {
        self.backward_of_layers(saved, d_states, Vec::new(), gradients);
    }

    /// The states of a layer's policy in a forward pass to a site above or at it, `[batch * seq, hidden]`; `None` for a layer of which
    /// the pass saved nothing (one above the site, or more than one below the lowest trained layer), and for the norm
    /// [`Norm::Tuned`] of a decoder without a tuned lens.
    pub fn layer_states(&self, saved: &SavedActivations<B>, layer: usize, norm: Norm) -> Option<Tensor<B, 2>> {
        self.normed_rows(layer, norm, saved.resid_post(layer)?).ok()
    }

    /// The same of a loss that depends on [`Self::layer_states`] as well.
    pub fn backward_of_layers(
        &self,
        saved: SavedActivations<B>,
        d_states: Tensor<B, 2>,
        of_layers: Vec<LayerGradient<B>>,
        gradients: &mut Gradients<B>,
    ) {
        let mut d_layers: Vec<(usize, Tensor<B, 2>)> = Vec::with_capacity(of_layers.len());
        for LayerGradient { layer, norm, d_states } in of_layers {
            let d = match saved.resid_post(layer) {
                Some(state) => self.normed_rows_backward(layer, norm, state, d_states, gradients),
                None => d_states,
            };
            d_layers.push((layer, d.cast(self.activation_dtype())));
        }
        let SavedActivations { tokens, mut context, layers, depth, part, norm, unnormed, states } = saved;
        drop(states);
        let mut d = match unnormed {
            Some(state) => self.normed_rows_backward(depth, norm, state, d_states, gradients),
            None => d_states,
        }
        .cast(self.activation_dtype());
        for (layer, saved) in (1..=depth).rev().zip(layers.into_iter().rev()) {
            let part = if layer == depth { part } else { Part::Whole };
            let SavedLayer { resid_pre, inside } = saved;
            for (_, of_layer) in d_layers.iter().filter(|(of, _)| *of == layer) {
                d = d + of_layer.clone();
            }
            let inside = inside.unwrap_or_else(|| self.forward_layer(layer, resid_pre.clone(), part, &mut context).1);
            d = self.layer_backward(layer, resid_pre, inside, part, d, &context, gradients);
        }
        if gradients.wants(self.embed_tokens.weight.id) {
            self.embed_tokens.add_gradient(tokens, d, gradients);
        }
    }

    #[allow(clippy::too_many_arguments)] // One layer's activations, and the sum of gradients.
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
            Some((resid_mid, saved)) => {
                let norm = &weights.post_attention_layernorm;
                let d_input = weights.mlp.backward(norm.forward(resid_mid.clone()), saved, d_output.clone(), gradients);
                match part {
                    Part::Whole => norm.backward_of_sum(resid_mid, d_output, d_input, gradients),
                    _ => norm.backward(resid_mid, d_input, gradients),
                }
            }
        };
        let norm = &weights.input_layernorm;
        let input = norm.forward(resid_pre.clone());
        let d_input = weights.self_attn.backward(input, inside.attention, d_mid.clone(), context, gradients);
        match part {
            // An attention contribution does not include the residual connection.
            Part::Attention => norm.backward(resid_pre, d_input, gradients),
            _ => norm.backward_of_sum(resid_pre, d_mid, d_input, gradients),
        }
    }
}

/// `[batch, seq, hidden]` as `[batch * seq, hidden]`.
fn flat<B: Backend>(states: Tensor<B, 3>) -> Tensor<B, 2> {
    states.flatten(0, 1)
}
