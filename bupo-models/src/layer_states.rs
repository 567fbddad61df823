//! The states after every layer at the response tokens of sequences.

use bupo_core::ResidualDecoder;
use burn::tensor::{Tensor, backend::Backend};

use crate::sequence::Sequence;
use crate::{Decoder, ModelError};

/// The states after each layer, `[layer] -> [response tokens of all sequences, hidden]`, at the positions that predict response
/// tokens; all sequences in one padded batch.
///
/// # Errors
/// If a prompt or response is empty, or an id is outside the vocabulary.
pub fn layer_states<B: Backend>(decoder: &Decoder<B>, sequences: &[Sequence]) -> Result<Vec<Tensor<B, 2>>, ModelError> {
    sequences.iter().try_for_each(|sequence| sequence.check(decoder.vocab_size()))?;
    let batch = decoder.batch(sequences);
    let mut context = decoder.batch_context(&batch);
    let stream = decoder.stream(batch.tokens(&decoder.device()), &mut context);
    Ok(stream.map(|step| batch.gather_states(step.resid_post.flatten(0, 1))).collect())
}
