//! The gradient of a loss over one micro-batch, of one site or of several.

use bupo_core::{PolicyForward, PolicyGradient, TokenDerivatives, TokenStats};
use bupo_models::decoder::{Gradients, LayerGradient, SavedActivations};
use bupo_models::{Decoder, SequenceBatch};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::policy_stats::{PolicySpec, policy};
use crate::RlError;
use crate::phases::SiteTerm;

/// The derivatives of a loss with respect to what it depends on.
pub(crate) struct SiteDerivatives {
    /// By the log-probs and entropies of the loss's site.
    pub(crate) policy: TokenDerivatives,
    /// Of each further site.
    pub(crate) terms: Vec<TermDerivatives>,
}

/// The derivatives with respect to what the loss has of a further site.
pub(crate) struct TermDerivatives {
    /// By its log-probs and entropies, if it has a policy loss.
    pub(crate) policy: Option<TokenDerivatives>,
    /// By its divergences, one per token, if it has one.
    pub(crate) divergence: Option<Vec<f32>>,
}

/// Adds the gradient of a loss over one micro-batch. `derivatives` maps the log-probs and entropies of its response tokens to the
/// loss's derivatives with respect to them.
pub(crate) fn accumulate<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    batch: &SequenceBatch,
    spec: &PolicySpec,
    recompute: bool,
    derivatives: impl FnOnce(&TokenStats) -> TokenDerivatives,
) -> Result<(), RlError> {
    let derivatives = |stats: &TokenStats, _: &[Option<&TokenStats>]| SiteDerivatives {
        policy: derivatives(stats),
        terms: Vec::new(),
    };
    accumulate_sites(decoder, gradients, batch, spec, &[], recompute, |_| Ok(None), derivatives)?;
    Ok(())
}

/// The same of a loss with further sites, from one forward pass. `derivatives` gets the statistics of the further sites too, `None`
/// for those without a policy loss. `of_states` adds the gradient of a loss of a layer's states, if there is one. Returns the divergences
/// of those sites that have one, one per token.
#[allow(clippy::too_many_arguments)] // The loss, by its parts.
pub(crate) fn accumulate_sites<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    batch: &SequenceBatch,
    spec: &PolicySpec,
    terms: &[SiteTerm],
    recompute: bool,
    of_states: impl FnOnce(&SavedActivations<B>) -> Result<Option<LayerGradient<B>>, RlError>,
    derivatives: impl FnOnce(&TokenStats, &[Option<&TokenStats>]) -> SiteDerivatives,
) -> Result<Vec<Vec<f32>>, RlError> {
    if batch.targets.is_empty() {
        return Ok(Vec::new());
    }
    let (tokens, context) = (batch.tokens(&decoder.device()), decoder.batch_context(batch));
    let saved = decoder.forward_train(tokens, context, spec.site, spec.norm, recompute)?;
    let of_states = of_states(&saved)?;
    let main = policy(batch.gather_states(saved.states.clone()), decoder, spec);
    let mut further = Vec::with_capacity(terms.len());
    for term in terms {
        let states = term.layer().and_then(|layer| decoder.layer_states(&saved, layer, term.norm));
        let states = states.ok_or_else(|| RlError::Config(format!("{} is not below {}", term.site, spec.site)))?;
        let spec = PolicySpec { site: term.site, norm: term.norm, temperature: spec.temperature };
        further.push(policy(batch.gather_states(states), decoder, &spec));
    }
    let forward = main.forward(&batch.targets);
    let forwards: Vec<Option<PolicyForward<'_, B>>> = terms
        .iter()
        .zip(&further)
        .map(|(term, policy)| (term.weight != 0.0).then(|| policy.forward(&batch.targets)))
        .collect();
    let stats: Vec<Option<&TokenStats>> =
        forwards.iter().map(|forward| forward.as_ref().map(|forward| &forward.stats)).collect();
    let SiteDerivatives { policy: by_policy, terms: by_terms } = derivatives(&forward.stats, &stats);
    let mut states = backward(forward, &by_policy, decoder, gradients);
    let (mut of_layers, mut divergences) = (Vec::with_capacity(terms.len()), Vec::new());
    for (((term, policy), forward), derivatives) in terms.iter().zip(&further).zip(forwards).zip(by_terms) {
        let mut of_site = Vec::new();
        if let (Some(forward), Some(derivatives)) = (forward, derivatives.policy) {
            of_site.push(backward(forward, &derivatives, decoder, gradients));
        }
        if let (Some(divergence), Some(weights)) = (term.divergence(), derivatives.divergence) {
            let aligned = policy.align(&main, divergence, &weights, term.detached);
            gradients.add(decoder.unembedding_id(), aligned.policy.unembedding);
            of_site.push(aligned.policy.states);
            if let Some(PolicyGradient { states: d_states, unembedding }) = aligned.full {
                gradients.add(decoder.unembedding_id(), unembedding);
                states = states + d_states;
            }
            divergences.push(aligned.values);
        }
        for d_states in of_site {
            let d_states = batch.scatter_grad(d_states);
            of_layers.extend(term.layer().map(|layer| LayerGradient { layer, norm: term.norm, d_states }));
        }
    }
    of_layers.extend(of_states);
    decoder.backward_of_layers(saved, batch.scatter_grad(states), of_layers, gradients);
    Ok(divergences)
}

/// The gradient with respect to a policy's states; adds that of the unembedding, if it is trained.
fn backward<B: Backend>(
    forward: PolicyForward<'_, B>,
    derivatives: &TokenDerivatives,
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
) -> Tensor<B, 2> {
    if !gradients.wants(decoder.unembedding_id()) {
        return forward.backward_states(derivatives);
    }
    let PolicyGradient { states, unembedding } = forward.backward(derivatives);
    gradients.add(decoder.unembedding_id(), unembedding);
    states
}
