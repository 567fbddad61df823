//! The logit lens and the tuned lens: every layer's policy at every position of a text.

use bupo_core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, TokenProb, TokenRank, token_tensor};
use burn::tensor::{Tensor, backend::Backend};

use crate::generate::{check_tokens, padded_tokens};
use crate::{Decoder, ModelError};

/// What a lens reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LensOptions {
    /// The norm between a state and the unembedding. With [`Norm::Final`] this is the logit lens, with [`Norm::Tuned`] the tuned lens;
    /// the last layer's policy then is the full policy.
    pub norm: Norm,
    /// How many of the most probable tokens are read.
    pub top: usize,
    /// The sites that are read, by default every layer and the full policy.
    pub sites: Option<Vec<PolicySite>>,
    /// The positions that are read, from 0, by default all.
    pub positions: Option<Vec<usize>>,
    /// A token whose place is read too.
    pub token: Option<u32>,
}

/// A site's policy at every position of a text that is read.
#[derive(Debug, Clone, PartialEq)]
pub struct LensSite {
    /// The site.
    pub site: PolicySite,
    /// Its entropy at each position, in nats.
    pub entropy: Vec<f32>,
    /// Its most probable next tokens at each position, most probable first.
    pub top: Vec<Vec<TokenProb>>,
    /// The place of [`LensOptions::token`] at each position, if it is given.
    pub followed: Option<Vec<TokenRank>>,
}

/// The most probable next tokens of sites at positions of `ids`, in one forward pass and in its order: of each layer
/// attention, feed-forward and the state after them, then the full policy.
///
/// # Errors
/// If `ids` is empty, an id is outside the vocabulary, a position outside the text or a site outside the model, or a logit is
/// not finite.
pub fn lens<B: Backend>(decoder: &Decoder<B>, ids: &[u32], options: &LensOptions) -> Result<Vec<LensSite>, ModelError> {
    check_text(decoder, ids, options.positions.as_deref(), options.token)?;
    for site in options.sites.iter().flatten() {
        site.depth(decoder.num_layers())?;
    }
    let is_read = |site: PolicySite| match &options.sites {
        Some(sites) => sites.contains(&site),
        None => matches!(site, PolicySite::Layer(_) | PolicySite::Full),
    };
    let mut context = decoder.prefill_context(ids.len());
    let mut stream = decoder.stream(padded_tokens(&[ids.to_vec()], &decoder.device()), &mut context);
    let mut sites = Vec::with_capacity(decoder.num_layers() + 1);
    for step in stream.by_ref() {
        for (site, state) in [
            (PolicySite::Attn(step.layer), step.attn.output),
            (PolicySite::Ffn(step.layer), step.ffn.output),
            (PolicySite::Layer(step.layer), step.resid_post),
        ] {
            if is_read(site) {
                let state = decoder.normed(site, options.norm, state)?;
                sites.push(read(decoder, site, state, options)?);
            }
        }
    }
    if is_read(PolicySite::Full) {
        sites.push(read(decoder, PolicySite::Full, decoder.final_norm(stream.state()), options)?);
    }
    Ok(sites)
}

fn read<B: Backend>(
    decoder: &Decoder<B>,
    site: PolicySite,
    state: Tensor<B, 3>,
    options: &LensOptions,
) -> Result<LensSite, ModelError> {
    let policy = InternalPolicy::new(at_positions(state, options.positions.as_deref()), decoder.unembedding());
    let followed = options.token.map(|token| policy.token_ranks(token)).transpose()?;
    Ok(LensSite { site, entropy: policy.entropy(), top: policy.top_tokens(options.top)?, followed })
}

/// Checks a text's ids, positions in it and a token.
pub(crate) fn check_text<B: Backend>(
    decoder: &Decoder<B>,
    ids: &[u32],
    positions: Option<&[usize]>,
    token: Option<u32>,
) -> Result<(), ModelError> {
    check_tokens(&[ids.to_vec()], decoder.vocab_size())?;
    token.map_or(Ok(()), |token| check_tokens(&[vec![token]], decoder.vocab_size()))?;
    match positions.into_iter().flatten().find(|position| **position >= ids.len()) {
        None => Ok(()),
        Some(position) => {
            let reason = format!("position {} is outside a text of {} tokens", position + 1, ids.len());
            Err(ModelError::Tokens(reason))
        }
    }
}

/// The states `[positions, hidden]` at positions, by default all, of one text `[1, seq, hidden]`.
pub(crate) fn at_positions<B: Backend>(state: Tensor<B, 3>, positions: Option<&[usize]>) -> Tensor<B, 2> {
    let states: Tensor<B, 2> = state.squeeze_dim(0);
    let Some(positions) = positions else { return states };
    let positions: Vec<u32> = positions.iter().map(|position| *position as u32).collect();
    let device = states.device();
    states.select(0, token_tensor(&positions, &device))
}
