//! Log-probs, entropies and KL divergences of response tokens under a policy.

use bupo_core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, SiteLogits, TokenStats};
use bupo_models::{Decoder, ResponseBlock, Sequence, split_by};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::RlError;

/// The policy of a loss or a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicySpec {
    /// The site of the state.
    pub site: PolicySite,
    /// The norm before the unembedding.
    pub norm: Norm,
    /// Divides the logits.
    pub temperature: f64,
}

/// Log-probs and entropies of every response token, `max_tokens_per_batch` tokens at a time. Equal bit for bit to those of the
/// forward pass of an update on the same sequences, batches and weights.
///
/// # Errors
/// If the site is outside the model.
pub fn response_stats<B: Backend>(
    decoder: &Decoder<B>,
    sequences: &[Sequence],
    spec: &PolicySpec,
    max_tokens_per_batch: usize,
) -> Result<Vec<TokenStats>, RlError> {
    let decoder = &decoder.for_many_rows(spec.site.depth(decoder.num_layers())?);
    let mut all = Vec::with_capacity(sequences.len());
    for part in decoder.batches(sequences, |sequence| sequence, max_tokens_per_batch) {
        let batch = decoder.batch(part.iter());
        let mut context = decoder.batch_context(&batch);
        let states = decoder.site_state(batch.tokens(&decoder.device()), spec.site, spec.norm, &mut context)?;
        let policy = policy(batch.gather_states(states.flatten(0, 1)), decoder, spec);
        // An update's blocks, so that the bits are the same.
        for ResponseBlock { responses, tokens } in batch.blocks(policy.states_at_once()) {
            let stats = policy.of_states(tokens.clone()).token_stats(&batch.targets[tokens]);
            let lengths = &batch.lengths[responses];
            all.extend(
                split_by(lengths, &stats.log_probs).zip(split_by(lengths, &stats.entropy)).map(
                    |(log_probs, entropy)| TokenStats { log_probs: log_probs.to_vec(), entropy: entropy.to_vec() },
                ),
            );
        }
    }
    Ok(all)
}

/// The mean of KL(policy || full policy) over all response tokens, in nats, both at the spec's temperature. NaN without tokens.
///
/// # Errors
/// If the site is outside the model.
pub(crate) fn kl_to_full<B: Backend>(
    decoder: &Decoder<B>,
    sequences: &[Sequence],
    spec: &PolicySpec,
    max_tokens_per_batch: usize,
) -> Result<f64, RlError> {
    let decoder = &decoder.for_many_rows(decoder.num_layers());
    let full = PolicySpec { site: PolicySite::Full, ..*spec };
    let (mut sum, mut tokens) = (0.0, 0);
    for part in decoder.batches(sequences, |sequence| sequence, max_tokens_per_batch) {
        let batch = decoder.batch(part.iter());
        let at = |spec: &PolicySpec| -> Result<InternalPolicy<B>, RlError> {
            let mut context = decoder.batch_context(&batch);
            let states = decoder.site_state(batch.tokens(&decoder.device()), spec.site, spec.norm, &mut context)?;
            Ok(policy(batch.gather_states(states.flatten(0, 1)), decoder, spec))
        };
        let compared = InternalPolicy::compare(&[SiteLogits::Own(at(spec)?)], Some(&at(&full)?), &batch.targets);
        let kl = compared.into_iter().filter_map(|site| site.divergence).flat_map(|beside| beside.kl);
        sum += kl.map(f64::from).sum::<f64>();
        tokens += batch.targets.len();
    }
    Ok(sum / tokens as f64)
}

/// The policy of `spec` on states `[tokens, hidden]`.
pub(crate) fn policy<B: Backend>(states: Tensor<B, 2>, decoder: &Decoder<B>, spec: &PolicySpec) -> InternalPolicy<B> {
    decoder.policy(states).with_temperature(spec.temperature)
}
