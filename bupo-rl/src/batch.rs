//! Blocks of sequences, run up to a policy's site.

use bupo_core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, TokenStats};
use bupo_models::decoder::untracked;
use bupo_models::{Block, Decoder, Sequence};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::RlError;

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

/// The states that predict a block's response tokens, `[tokens, hidden]`; nothing above the site runs.
pub(crate) fn site_states<B: Backend>(
    block: &Block,
    decoder: &Decoder<B>,
    spec: &PolicySpec,
) -> Result<Tensor<B, 2>, RlError> {
    let mut pass = decoder.whole_pass(block.longest());
    let states = decoder.site_state(block.tokens(&decoder.device()), spec.site, spec.norm, &mut pass)?;
    Ok(block.predicting(states))
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
        let stats = policy(site_states(&block, &lifted, spec)?.inner(), decoder, spec).token_stats(&block.targets);
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
