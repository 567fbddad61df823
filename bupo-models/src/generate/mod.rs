//! Batched generation from the full policy or an internal one, with a KV cache.

mod batch;
mod stop;

use bupo_core::{Norm, PolicySite, ResidualDecoder, SamplingParams, token_tensor};
use burn::tensor::{Int, Tensor, backend::Backend};

use crate::{ComputeDtype, Decoder, ModelError};
use batch::Batch;

pub use batch::PREFILL_TOKENS;
pub use stop::StopStrings;

/// How to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The policy that is sampled; layers above it do not run.
    pub site: PolicySite,
    /// The norm between its state and the unembedding.
    pub norm: Norm,
    /// Divides the logits; 0 is greedy decoding, with log-probs at temperature 1.
    pub temperature: f64,
    /// Restrictions of the tokens that may be sampled, none by default. With any, logits are read back to the host.
    pub sampling: SamplingParams,
    /// The largest number of tokens of a response.
    pub max_new_tokens: usize,
    /// Ids that end a response; if empty, responses end at `max_new_tokens` or a stop string.
    pub eos_token_ids: Vec<u32>,
    /// Seeds the random numbers, which are drawn on the host. Row `i` has its own stream, number `first_row + i`, so
    /// its response does not depend on the batch.
    pub seed: u64,
    /// The number of the first row, if the prompts are part of a larger set.
    pub first_row: usize,
    /// The largest number of rows at a time, at least 1; it bounds the memory of the KV cache.
    pub batch: usize,
}

/// A generated response.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The generated ids, an end-of-sequence id included.
    pub tokens: Vec<u32>,
    /// Their log-probs under the policy at the temperature, without the restrictions of `sampling`.
    pub log_probs: Vec<f32>,
    /// Whether an end-of-sequence id or a stop string ended it.
    pub finished: bool,
}

/// Continues each prompt, `options.batch` rows at a time with continuous batching: a waiting prompt takes the place of
/// a finished response. Equal prompts that start together are prefilled once.
///
/// # Errors
/// If a prompt is empty or has an id outside the vocabulary, the site is outside the model, a sampling parameter is out
/// of range, or the policy's logits are not finite.
pub fn generate<B: Backend>(
    decoder: &Decoder<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
) -> Result<Vec<Response>, ModelError> {
    generate_until(decoder, prompts, options, None)
}

/// [`generate`] with stop strings: a response also ends with the token that completes one of them.
///
/// # Errors
/// Those of [`generate`]; if a response cannot be decoded.
pub fn generate_until<B: Backend>(
    decoder: &Decoder<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    stop: Option<StopStrings<'_>>,
) -> Result<Vec<Response>, ModelError> {
    check_tokens(prompts, decoder.vocab_size())?;
    options.sampling.check()?;
    if options.max_new_tokens == 0 {
        return Ok(vec![Response::default(); prompts.len()]);
    }
    // A single row gains nothing from transposed weights, which are a second copy.
    if prompts.len().min(options.batch) < 2 && decoder.compute_dtype() == ComputeDtype::F32 {
        return Batch::new(decoder, decoder.unembedding(), prompts, options, stop)?.run();
    }
    let (pretransposed, unembedding) = decoder.pretransposed();
    Batch::new(&pretransposed, unembedding, prompts, options, stop)?.run()
}

/// Checks rows of token ids against a vocabulary.
///
/// # Errors
/// If a row is empty or an id is outside the vocabulary; the error names the first.
pub fn check_tokens(rows: &[Vec<u32>], vocab: usize) -> Result<(), ModelError> {
    for (row, ids) in rows.iter().enumerate() {
        if ids.is_empty() {
            return Err(ModelError::Tokens(format!("row {} has no tokens; a model needs at least one", row + 1)));
        }
        if let Some(position) = ids.iter().position(|id| *id as usize >= vocab) {
            return Err(ModelError::TokenOutOfRange { id: ids[position], row: row + 1, position: position + 1, vocab });
        }
    }
    Ok(())
}

/// Rows padded on the right with token 0 to the longest row, as a tensor `[rows, longest]`.
pub fn padded_tokens<B: Backend>(rows: &[Vec<u32>], device: &B::Device) -> Tensor<B, 2, Int> {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let ids: Vec<u32> =
        rows.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat_n(0, longest - ids.len()))).collect();
    token_tensor(&ids, device).reshape([rows.len(), longest])
}
