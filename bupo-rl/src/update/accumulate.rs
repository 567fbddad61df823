//! The gradient of a loss over one micro-batch, of one site or of several.

use bupo_core::{InternalPolicy, PolicyForward, PolicyGradient, TokenDerivatives, TokenStats};
use bupo_models::decoder::{Gradients, LayerGradient};
use bupo_models::{Decoder, PaddedBatch};
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
    batch: &PaddedBatch,
    spec: &PolicySpec,
    recompute: bool,
    derivatives: impl FnOnce(&TokenStats) -> TokenDerivatives,
) -> Result<(), RlError> {
    accumulate_sites(decoder, gradients, batch, spec, &[], recompute, |stats, _| SiteDerivatives {
        policy: derivatives(stats),
        terms: Vec::new(),
    })?;
    Ok(())
}

/// The same of a loss with further sites, from one forward pass. `derivatives` gets the statistics of the further sites too, `None`
/// for those without a policy loss. Returns the divergences of those sites that have one, one per token.
pub(crate) fn accumulate_sites<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    batch: &PaddedBatch,
    spec: &PolicySpec,
    terms: &[SiteTerm],
    recompute: bool,
    derivatives: impl FnOnce(&TokenStats, &[Option<&TokenStats>]) -> SiteDerivatives,
) -> Result<Vec<Vec<f32>>, RlError> {
    if batch.targets.is_empty() {
        return Ok(Vec::new());
    }
    let saved = decoder.forward_train(batch.tokens(&decoder.device()), spec.site, spec.norm, recompute)?;
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
    let PolicyGradient { mut states, unembedding } = forward.backward(&by_policy);
    gradients.add(decoder.unembedding_id(), unembedding);
    let (mut of_layers, mut divergences) = (Vec::with_capacity(terms.len()), Vec::new());
    for (((term, policy), forward), derivatives) in terms.iter().zip(&further).zip(forwards).zip(by_terms) {
        let TermGradient { of_site, of_full, values } = of_term(term, policy, &main, forward, derivatives);
        for PolicyGradient { states: d_states, unembedding } in of_site {
            gradients.add(decoder.unembedding_id(), unembedding);
            let d_states = batch.scatter_grad(d_states);
            of_layers.extend(term.layer().map(|layer| LayerGradient { layer, norm: term.norm, d_states }));
        }
        if let Some(PolicyGradient { states: d_states, unembedding }) = of_full {
            gradients.add(decoder.unembedding_id(), unembedding);
            states = states + d_states;
        }
        divergences.extend(values);
    }
    decoder.backward_of_layers(saved, batch.scatter_grad(states), of_layers, gradients);
    Ok(divergences)
}

/// The gradients of what the loss has of a further site.
struct TermGradient<B: Backend> {
    /// Through the site's policy: of its policy loss and its divergence.
    of_site: Vec<PolicyGradient<B>>,
    /// Through the full policy.
    of_full: Option<PolicyGradient<B>>,
    /// The divergences, if it has one.
    values: Option<Vec<f32>>,
}

fn of_term<B: Backend>(
    term: &SiteTerm,
    policy: &InternalPolicy<B>,
    full: &InternalPolicy<B>,
    forward: Option<PolicyForward<'_, B>>,
    derivatives: TermDerivatives,
) -> TermGradient<B> {
    let mut gradient = TermGradient { of_site: Vec::new(), of_full: None, values: None };
    if let (Some(forward), Some(derivatives)) = (forward, derivatives.policy) {
        gradient.of_site.push(forward.backward(&derivatives));
    }
    if let (Some(divergence), Some(weights)) = (term.divergence(), derivatives.divergence) {
        let aligned = policy.align(full, divergence, &weights, term.detached);
        gradient.of_site.push(aligned.policy);
        gradient.of_full = aligned.full;
        gradient.values = Some(aligned.values);
    }
    gradient
}
