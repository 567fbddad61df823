//! Batched generation from the full policy or an internal one, with a KV cache.

mod batch;
mod options;
mod rows;
mod stop;
mod text_stream;

use std::ops::ControlFlow;

use burn::tensor::backend::Backend;

use crate::{Decoder, ModelError};
use batch::Batch;

pub use batch::PREFILL_TOKENS;
pub use options::{GenerateOptions, GenerationProgress, Response};
pub use rows::{check_tokens, padded_tokens};
pub use stop::StopStrings;
pub use text_stream::TextStream;

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
    generate_with(decoder, prompts, options, stop, &mut |_| ControlFlow::Continue(()))
}

/// [`generate_until`] that calls `report` after each new token of a response, and once for a response without tokens. If it
/// returns [`ControlFlow::Break`], generation stops, and the responses are what they are then.
///
/// # Errors
/// Those of [`generate_until`].
pub fn generate_with<B: Backend>(
    decoder: &Decoder<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    stop: Option<StopStrings<'_>>,
    report: &mut dyn FnMut(GenerationProgress<'_>) -> ControlFlow<()>,
) -> Result<Vec<Response>, ModelError> {
    check_tokens(prompts, decoder.vocab_size())?;
    options.sampling.check()?;
    if options.max_new_tokens == 0 {
        let responses = vec![Response::default(); prompts.len()];
        let _ = responses
            .iter()
            .enumerate()
            .try_for_each(|(prompt, response)| report(GenerationProgress { prompt, response, done: true }));
        return Ok(responses);
    }
    let decoder = decoder.clone().cast_weights().with_lowered_unembedding().joined();
    Batch::new(&decoder, prompts, options, stop, report)?.run()
}
