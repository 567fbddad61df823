//! Options and results of generation.

use bupo_core::{Norm, PolicySite, SamplingParams};

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

/// A response after a new token, as [`generate_with`](super::generate_with) reports it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationProgress<'a> {
    /// The index of its prompt.
    pub prompt: usize,
    /// The response so far.
    pub response: &'a Response,
    /// Whether it is complete.
    pub done: bool,
}
