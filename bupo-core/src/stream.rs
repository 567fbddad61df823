//! The residual stream, layer by layer, each layer split into its contributions.

use burn::tensor::{Int, Tensor, backend::Backend};

use crate::{CoreError, Norm, PolicySite};

/// A decoder that can be split into contributions. Layers are 1-based; states are `[batch, seq, hidden]`.
///
/// The two required halves, [`attention`](Self::attention) and [`feed_forward`](Self::feed_forward), make up one layer.
pub trait ResidualDecoder<B: Backend> {
    /// What the layers of one forward pass share: positions, the mask, the KV cache.
    type Context;

    /// The number of layers L.
    fn num_layers(&self) -> usize;
    /// `H^0`, the embeddings of `tokens` `[batch, seq]`.
    fn embed(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3>;
    /// `norm_in` and attention of a layer, on the state before the layer.
    fn attention(&self, layer: usize, resid_pre: Tensor<B, 3>, context: &mut Self::Context) -> AttnContribution<B>;
    /// `norm_post` and feed-forward of a layer, on the state between its halves.
    fn feed_forward(&self, layer: usize, resid_mid: Tensor<B, 3>) -> FfnContribution<B>;
    /// The model's final norm of any state.
    fn final_norm(&self, state: Tensor<B, 3>) -> Tensor<B, 3>;
    /// A state after `layer` layers through the affine map that the tuned lens has for it; the state itself after the last layer.
    ///
    /// # Errors
    /// If the decoder has no tuned lens.
    fn translated(&self, layer: usize, state: Tensor<B, 3>) -> Result<Tensor<B, 3>, CoreError>;
    /// `E_u`, `[vocab, hidden]`.
    fn unembedding(&self) -> Tensor<B, 2>;

    /// What the unembedding multiplies, of the state of a site.
    ///
    /// # Errors
    /// If the norm is [`Norm::Tuned`] and the decoder has no tuned lens.
    fn normed(&self, site: PolicySite, norm: Norm, state: Tensor<B, 3>) -> Result<Tensor<B, 3>, CoreError> {
        Ok(match norm.of_site(site) {
            Norm::None => state,
            Norm::Final => self.final_norm(state),
            Norm::Tuned => self.final_norm(self.translated(site.layer().unwrap_or_default(), state)?),
        })
    }

    /// Runs one layer and returns its states and contributions.
    fn layer(&self, layer: usize, resid_pre: Tensor<B, 3>, context: &mut Self::Context) -> LayerContributions<B> {
        let attn = self.attention(layer, resid_pre.clone(), context);
        let resid_mid = resid_pre.clone() + attn.output.clone();
        let ffn = self.feed_forward(layer, resid_mid.clone());
        let resid_post = resid_mid.clone() + ffn.output.clone();
        LayerContributions { layer, resid_pre, attn, resid_mid, ffn, resid_post }
    }

    /// Starts a stream at the embeddings of `tokens` `[batch, seq]`.
    fn stream<'a>(&'a self, tokens: Tensor<B, 2, Int>, context: &'a mut Self::Context) -> ResidualStream<'a, B, Self>
    where
        Self: Sized,
    {
        ResidualStream { decoder: self, context, state: self.embed(tokens), done: 0 }
    }

    /// The state of `site`, after the norm if any. Layers above the site do not run.
    ///
    /// # Errors
    /// If the site is outside the model.
    fn site_state(
        &self,
        tokens: Tensor<B, 2, Int>,
        site: PolicySite,
        norm: Norm,
        context: &mut Self::Context,
    ) -> Result<Tensor<B, 3>, CoreError>
    where
        Self: Sized,
    {
        let depth = site.depth(self.num_layers())?;
        let mut stream = self.stream(tokens, context);
        let state = match site {
            PolicySite::Full | PolicySite::Layer(_) => stream.advance(depth),
            PolicySite::Attn(_) => {
                let resid_pre = stream.advance(depth - 1);
                self.attention(depth, resid_pre, context).output
            }
            PolicySite::Ffn(_) => {
                let resid_pre = stream.advance(depth - 1);
                let attn_out = self.attention(depth, resid_pre.clone(), context).output;
                self.feed_forward(depth, resid_pre + attn_out).output
            }
        };
        self.normed(site, norm, state)
    }
}

/// The attention half of a layer: `input = norm_in(H^{l-1})`, `output = A^l`.
#[derive(Debug, Clone)]
pub struct AttnContribution<B: Backend> {
    /// The normed input of attention, `[batch, seq, hidden]`.
    pub input: Tensor<B, 3>,
    /// The contribution to the stream, `[batch, seq, hidden]`.
    pub output: Tensor<B, 3>,
}

/// The feed-forward half of a layer: `input = norm_post(H^{l-1} + A^l)`, `output = F^l`.
#[derive(Debug, Clone)]
pub struct FfnContribution<B: Backend> {
    /// The normed input of the feed-forward, `[batch, seq, hidden]`.
    pub input: Tensor<B, 3>,
    /// The contribution to the stream, `[batch, seq, hidden]`.
    pub output: Tensor<B, 3>,
}

/// One layer, split: `resid_pre + attn.output = resid_mid`, `resid_mid + ffn.output = resid_post`.
#[derive(Debug, Clone)]
pub struct LayerContributions<B: Backend> {
    /// The layer's number, from 1.
    pub layer: usize,
    /// `H^{l-1}`.
    pub resid_pre: Tensor<B, 3>,
    /// The attention's input and output.
    pub attn: AttnContribution<B>,
    /// `H^{l-1} + A^l`.
    pub resid_mid: Tensor<B, 3>,
    /// The feed-forward's input and output.
    pub ffn: FfnContribution<B>,
    /// `H^l`.
    pub resid_post: Tensor<B, 3>,
}

/// The residual stream of one forward pass: an iterator over the layers' contributions.
///
/// It is lazy: a layer runs when the iterator reaches it.
pub struct ResidualStream<'a, B: Backend, D: ResidualDecoder<B>> {
    decoder: &'a D,
    context: &'a mut D::Context,
    state: Tensor<B, 3>,
    done: usize,
}

impl<B: Backend, D: ResidualDecoder<B>> ResidualStream<'_, B, D> {
    /// The state `H^l` after the layers that have run, `[batch, seq, hidden]`.
    pub fn state(&self) -> Tensor<B, 3> {
        self.state.clone()
    }

    /// Runs up to and including layer `depth` and returns the state there.
    fn advance(&mut self, depth: usize) -> Tensor<B, 3> {
        let steps = depth.saturating_sub(self.done);
        self.by_ref().take(steps).for_each(drop);
        self.state()
    }
}

impl<B: Backend, D: ResidualDecoder<B>> Iterator for ResidualStream<'_, B, D> {
    type Item = LayerContributions<B>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done == self.decoder.num_layers() {
            return None;
        }
        self.done += 1;
        let step = self.decoder.layer(self.done, self.state.clone(), self.context);
        self.state = step.resid_post.clone();
        Some(step)
    }
}
