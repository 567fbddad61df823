//! The logit lens: every layer's policy at every position of a text.

use bupo_core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, TokenProb};
use burn::tensor::{Tensor, backend::Backend};

use crate::generate::{check_tokens, padded_tokens};
use crate::{Decoder, ModelError};

/// A site's policy at every position of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct LensSite {
    /// The site.
    pub site: PolicySite,
    /// Its entropy at each position, in nats.
    pub entropy: Vec<f32>,
    /// Its most probable next tokens at each position, most probable first.
    pub top: Vec<Vec<TokenProb>>,
}

/// The `top` most probable next tokens of every layer, in order, and of the full policy, at each of `ids`, in one
/// forward pass. With [`Norm::Final`] this is the logit lens, and the last layer's policy is the full policy.
///
/// # Errors
/// If `ids` is empty, an id is outside the vocabulary, or a logit is not finite.
pub fn lens<B: Backend>(
    decoder: &Decoder<B>,
    ids: &[u32],
    norm: Norm,
    top: usize,
) -> Result<Vec<LensSite>, ModelError> {
    check_tokens(&[ids.to_vec()], decoder.vocab_size())?;
    let mut context = decoder.prefill_context(ids.len());
    let mut stream = decoder.stream(padded_tokens(&[ids.to_vec()], &decoder.device()), &mut context);
    let read = |site: PolicySite, state: Tensor<B, 3>| -> Result<LensSite, ModelError> {
        let policy = InternalPolicy::new(state.squeeze_dim(0), decoder.unembedding());
        Ok(LensSite { site, entropy: policy.entropy(), top: policy.top_tokens(top)? })
    };
    let mut sites = Vec::with_capacity(decoder.num_layers() + 1);
    for step in stream.by_ref() {
        let state = match norm {
            Norm::None => step.resid_post,
            Norm::Final => decoder.final_norm(step.resid_post),
        };
        sites.push(read(PolicySite::Layer(step.layer), state)?);
    }
    sites.push(read(PolicySite::Full, decoder.final_norm(stream.state()))?);
    Ok(sites)
}
