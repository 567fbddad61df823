//! Prompts with their responses, padded into blocks and run up to a policy's site.

use bupo_core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, TokenStats, token_tensor};
use bupo_models::Decoder;
use bupo_models::decoder::untracked;
use bupo_models::generate::padded_tokens;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::RlError;

/// A prompt and a response to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The prompt's ids, at least one.
    pub prompt: Vec<u32>,
    /// The response's ids, the first end-of-sequence id the last of them.
    pub response: Vec<u32>,
}

impl Sequence {
    /// Tokens of prompt and response.
    #[allow(clippy::len_without_is_empty)] // A prompt has at least one token.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.response.len()
    }
}

/// The policy a loss or a measurement is of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicySpec {
    /// Where the state is read.
    pub site: PolicySite,
    /// The norm between the state and the unembedding.
    pub norm: Norm,
    /// Divides the logits.
    pub temperature: f64,
}

/// Sequences padded on the right, with the places of the states that predict response tokens.
pub(crate) struct Block {
    rows: Vec<Vec<u32>>,
    /// Places of those states in the flattened `[rows * longest]`.
    places: Vec<u32>,
    /// The response tokens, one per place.
    pub(crate) targets: Vec<u32>,
    /// Response lengths.
    pub(crate) lengths: Vec<usize>,
}

impl Block {
    /// The state at position t predicts token t + 1, so a response of n tokens has its states at positions
    /// `prompt_len - 1 ..= prompt_len + n - 2`, and its last token is not run.
    pub(crate) fn new<'a>(sequences: impl Iterator<Item = &'a Sequence>) -> Self {
        let mut block = Self { rows: Vec::new(), places: Vec::new(), targets: Vec::new(), lengths: Vec::new() };
        let mut starts = Vec::new();
        for sequence in sequences {
            let run = sequence.response.len().saturating_sub(1);
            block.rows.push([&sequence.prompt[..], &sequence.response[..run]].concat());
            block.targets.extend(&sequence.response);
            block.lengths.push(sequence.response.len());
            starts.push(sequence.prompt.len() - 1);
        }
        let longest = block.rows.iter().map(Vec::len).max().unwrap_or(0);
        for (row, (start, length)) in starts.iter().zip(&block.lengths).enumerate() {
            block.places.extend((0..*length).map(|token| (row * longest + start + token) as u32));
        }
        block
    }

    /// The states that predict response tokens, `[tokens, hidden]`; nothing above the site runs.
    pub(crate) fn states<B: Backend>(&self, decoder: &Decoder<B>, spec: &PolicySpec) -> Result<Tensor<B, 2>, RlError> {
        let device = decoder.device();
        let tokens = padded_tokens(&self.rows, &device);
        let [rows, longest] = tokens.dims();
        let state = decoder.site_state(tokens, spec.site, spec.norm, &mut decoder.whole_pass(longest))?;
        let hidden = state.dims()[2];
        Ok(state.reshape([rows * longest, hidden]).select(0, token_tensor(&self.places, &device)))
    }

    /// Cuts per-token values into one slice per response.
    pub(crate) fn split<'a, T>(&'a self, mut values: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        self.lengths.iter().map(move |length| {
            let (response, rest) = values.split_at(*length);
            values = rest;
            response
        })
    }
}

/// Log-probs and entropies of every response token, `micro_batch` sequences at a time: bit for bit those that an
/// update on the same micro-batches sees before it changes anything.
///
/// # Errors
/// If the site is outside the model.
pub fn response_stats<A: AutodiffBackend>(
    decoder: &Decoder<A::InnerBackend>,
    sequences: &[Sequence],
    spec: &PolicySpec,
    micro_batch: usize,
) -> Result<Vec<TokenStats>, RlError> {
    let lifted = untracked::<A>(decoder);
    let mut all = Vec::with_capacity(sequences.len());
    for part in sequences.chunks(micro_batch.max(1)) {
        let block = Block::new(part.iter());
        let stats = policy(block.states(&lifted, spec)?.inner(), decoder, spec).token_stats(&block.targets);
        all.extend(
            block
                .split(&stats.log_probs)
                .zip(block.split(&stats.entropy))
                .map(|(log_probs, entropy)| TokenStats { log_probs: log_probs.to_vec(), entropy: entropy.to_vec() }),
        );
    }
    Ok(all)
}

/// States read as the policy a spec names.
pub(crate) fn policy<B: Backend>(states: Tensor<B, 2>, decoder: &Decoder<B>, spec: &PolicySpec) -> InternalPolicy<B> {
    InternalPolicy::new(states, decoder.unembedding()).with_temperature(spec.temperature)
}
