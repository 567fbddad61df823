//! Direct logit attribution: what the embedding and each attention and feed-forward added to the logit of a token.
//!
//! The final state is the sum of the contributions c of the stream. With its root mean square frozen, the final norm is linear, and
//! with `w` the norm's weight so is the logit of token t:
//!
//! ```text
//! logit_t = (w * H^L / rms(H^L)) . E_u[t] = sum over c of c . (w * E_u[t]) / rms(H^L)
//! ```
//!
//! TransformerLens computes the same by `apply_ln_to_stack` and a dot product with the token's unembedding, there of weights into which
//! the norm's are folded.

use bupo_core::{InternalPolicy, PolicySite, ResidualDecoder, token_tensor};
use burn::tensor::{DType, Tensor, backend::Backend};

use crate::generate::padded_tokens;
use crate::lens::{at_positions, check_text};
use crate::{Decoder, ModelError};

/// The logits of tokens, one per position, and what added to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// The token of each position.
    pub tokens: Vec<u32>,
    /// The full policy's logit of it, before the softmax.
    pub logits: Vec<f32>,
    /// What the embedding added to that logit.
    pub embedding: Vec<f32>,
    /// `attn:1`, `ffn:1`, `layer:1`, `attn:2` and so on.
    pub sites: Vec<SiteAttribution>,
}

/// What a site added to the logits of an [`Attribution`].
#[derive(Debug, Clone, PartialEq)]
pub struct SiteAttribution {
    /// The site.
    pub site: PolicySite,
    /// What its output added; for a layer, what its attention and its feed-forward added together.
    pub added: Vec<f32>,
    /// What all that came before it added together, the embedding included.
    pub before: Vec<f32>,
}

/// The attribution of one token's logit at positions of `ids` (from 0, by default all): of `token`, or of the full policy's most
/// probable next token at each position. With the embedding's, the contributions of all attentions and feed-forwards add up to the
/// logit, to rounding.
///
/// # Errors
/// If `ids` is empty, an id is outside the vocabulary, a position outside the text, or a logit is not finite.
pub fn attribution<B: Backend>(
    decoder: &Decoder<B>,
    ids: &[u32],
    positions: Option<&[usize]>,
    token: Option<u32>,
) -> Result<Attribution, ModelError> {
    check_text(decoder, ids, positions, token)?;
    let at = |state: Tensor<B, 3>| at_positions(state, positions);
    let mut context = decoder.prefill_context(ids.len());
    let mut stream = decoder.stream(padded_tokens(&[ids.to_vec()], &decoder.device()), &mut context);
    let embedding = at(stream.state());
    let layers: Vec<_> = stream.by_ref().map(|step| (at(step.attn.output), at(step.ffn.output))).collect();
    let last = stream.state();
    let tokens = match token {
        Some(token) => vec![token; embedding.dims()[0]],
        None => {
            let policy = InternalPolicy::new(at(decoder.final_norm(last.clone())), decoder.unembedding());
            policy.top_tokens(1)?.into_iter().flatten().map(|top| top.token).collect()
        }
    };
    let mut pass = AttributionPass::new(decoder, tokens, embedding);
    layers.into_iter().for_each(|(attn, ffn)| pass.layer(attn, ffn));
    Ok(pass.finish(decoder, at(last)))
}

/// The dot products of the contributions of one forward pass with the directions of tokens' logits.
pub(crate) struct AttributionPass<B: Backend> {
    tokens: Vec<u32>,
    /// `w * E_u[t]`, `[tokens, hidden]`.
    directions: Tensor<B, 2>,
    embedding: Vec<f32>,
    /// Of each layer's attention and feed-forward.
    layers: Vec<[Vec<f32>; 2]>,
}

impl<B: Backend> AttributionPass<B> {
    /// Starts at the states `embedding` `[tokens, hidden]`, one per token.
    pub(crate) fn new(decoder: &Decoder<B>, tokens: Vec<u32>, embedding: Tensor<B, 2>) -> Self {
        let rows = decoder.unembedding().select(0, token_tensor(&tokens, &decoder.device()));
        let directions = rows * decoder.norm.weight.val().cast(DType::F32).unsqueeze();
        let embedding = products(embedding, &directions);
        Self { tokens, directions, embedding, layers: Vec::with_capacity(decoder.layers.len()) }
    }

    /// Adds the next layer's contributions `[tokens, hidden]`.
    pub(crate) fn layer(&mut self, attn: Tensor<B, 2>, ffn: Tensor<B, 2>) {
        self.layers.push([attn, ffn].map(|states| products(states, &self.directions)));
    }

    /// Divides by the root mean squares of the final states `[tokens, hidden]`.
    pub(crate) fn finish(self, decoder: &Decoder<B>, last: Tensor<B, 2>) -> Attribution {
        let roots = last.clone().cast(DType::F32).square().mean_dim(1).add_scalar(decoder.norm.eps).sqrt();
        let roots: Vec<f32> = roots.into_data().iter::<f32>().collect();
        let divided =
            |products: Vec<f32>| -> Vec<f32> { products.iter().zip(&roots).map(|(a, root)| a / root).collect() };
        let sum = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let (logits, embedding) = (divided(products(last, &self.directions)), divided(self.embedding));
        let mut sites = Vec::with_capacity(3 * self.layers.len());
        let mut before = embedding.clone();
        for (index, contributions) in self.layers.into_iter().enumerate() {
            let layer = index + 1;
            let [attn, ffn] = contributions.map(divided);
            let (added, middle) = (sum(&attn, &ffn), sum(&before, &attn));
            let after = sum(&middle, &ffn);
            sites.extend([
                SiteAttribution { site: PolicySite::Attn(layer), added: attn, before: before.clone() },
                SiteAttribution { site: PolicySite::Ffn(layer), added: ffn, before: middle },
                SiteAttribution { site: PolicySite::Layer(layer), added, before },
            ]);
            before = after;
        }
        Attribution { tokens: self.tokens, logits, embedding, sites }
    }
}

/// The dot product of each state with its direction, both `[tokens, hidden]`.
fn products<B: Backend>(states: Tensor<B, 2>, directions: &Tensor<B, 2>) -> Vec<f32> {
    (states.cast(DType::F32) * directions.clone()).sum_dim(1).into_data().iter::<f32>().collect()
}
