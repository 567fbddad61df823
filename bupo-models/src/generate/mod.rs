//! Batched generation from the full policy or any internal one, with a cache.

mod batch;

use bupo_core::{Norm, PolicySite, ResidualDecoder, token_tensor};
use burn::tensor::{Int, Tensor, backend::Backend};

use crate::{ComputeDtype, Decoder, ModelError};
use batch::Batch;

pub use batch::PREFILL_TOKENS;

/// How to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The policy sampled from; layers above it never run.
    pub site: PolicySite,
    /// The norm between its state and the unembedding.
    pub norm: Norm,
    /// Divides the logits; 0 takes the most probable token (and reports its log-prob at temperature 1).
    pub temperature: f64,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Ids that end a response; empty to run to the longest.
    pub eos_token_ids: Vec<u32>,
    /// Seeds the host's random numbers. Row `i` draws from its own stream, number `first_row + i`, whatever else is in
    /// the batch.
    pub seed: u64,
    /// The number of the first row, for rows that are a part of more.
    pub first_row: usize,
    /// How many rows are run at once, at least 1; it bounds the memory of the cache.
    pub batch: usize,
}

/// A generated response.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The generated ids, an end-of-sequence id included.
    pub tokens: Vec<u32>,
    /// Their log-probs under the policy that was sampled.
    pub log_probs: Vec<f32>,
    /// Whether an end-of-sequence id ended it.
    pub finished: bool,
}

/// Continues each prompt, `options.batch` at a time: where a response ends, a prompt that waits takes its place. Equal prompts
/// that start together are read once.
///
/// # Errors
/// If a prompt is empty or has an id outside the vocabulary, the site is outside the model, or the policy's logits
/// are not finite.
pub fn generate<B: Backend>(
    decoder: &Decoder<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
) -> Result<Vec<Response>, ModelError> {
    check_tokens(prompts, decoder.vocab_size())?;
    if options.max_new_tokens == 0 {
        return Ok(vec![Response::default(); prompts.len()]);
    }
    // One row alone reads weights as fast as they lie; a second copy of them would buy nothing.
    if prompts.len().min(options.batch) < 2 && decoder.compute_dtype() == ComputeDtype::F32 {
        return Batch::new(decoder, decoder.unembedding(), prompts, options)?.run();
    }
    let (turned, unembedding) = decoder.pretransposed();
    Batch::new(&turned, unembedding, prompts, options)?.run()
}

/// Checks rows of token ids against a vocabulary.
///
/// # Errors
/// Names the first empty row or the first id outside.
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

/// Rows padded on the right with token 0 to the longest, as a device tensor `[rows, longest]`.
pub fn padded_tokens<B: Backend>(rows: &[Vec<u32>], device: &B::Device) -> Tensor<B, 2, Int> {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let ids: Vec<u32> =
        rows.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat_n(0, longest - ids.len()))).collect();
    token_tensor(&ids, device).reshape([rows.len(), longest])
}
