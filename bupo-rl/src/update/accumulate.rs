//! The gradient of a loss over one micro-batch, of one site or of several.

use std::ops::Range;

use bupo_core::{InternalPolicy, PolicyForward, PolicyGradient, ResidualDecoder, TokenDerivatives, TokenStats};
use bupo_models::decoder::{Gradients, LayerGradient, SavedActivations};
use bupo_models::{Decoder, ResponseBlock, SequenceBatch};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::policy_stats::{PolicySpec, policy};
use crate::RlError;
use crate::phases::SiteTerm;

/// The derivatives of a loss of some responses with respect to what it depends on.
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

/// Adds the gradient of a loss over one micro-batch. `derivatives` maps the log-probs and entropies of the tokens of some neighbouring
/// responses to the loss's derivatives with respect to them, and is called until all responses had their turn.
pub(crate) fn accumulate<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    batch: &SequenceBatch,
    spec: &PolicySpec,
    recompute: bool,
    mut derivatives: impl FnMut(&TokenStats) -> TokenDerivatives,
) -> Result<(), RlError> {
    let derivatives = |_, stats: &TokenStats, _: &[Option<&TokenStats>]| SiteDerivatives {
        policy: derivatives(stats),
        terms: Vec::new(),
    };
    accumulate_sites(decoder, gradients, batch, spec, &[], recompute, |_| Ok(None), derivatives)?;
    Ok(())
}

/// The same of a loss with further sites, from one forward pass. `derivatives` gets the responses' places in the batch, and the
/// statistics of the further sites too, `None` for those without a policy loss. `of_states` adds the gradient of a loss of a layer's states, if there is one. Returns the divergences
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
    derivatives: impl FnMut(Range<usize>, &TokenStats, &[Option<&TokenStats>]) -> SiteDerivatives,
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
    let Policies { states, of_sites, weights } =
        policy_losses(decoder, gradients, batch, &main, (terms, &further), derivatives);
    let mut states = Tensor::cat(states, 0);
    let (mut of_layers, mut divergences) = (Vec::with_capacity(terms.len()), Vec::new());
    for (((term, policy), d_states), weights) in terms.iter().zip(&further).zip(of_sites).zip(weights) {
        let mut of_site = Vec::new();
        if !d_states.is_empty() {
            of_site.push(Tensor::cat(d_states, 0));
        }
        if let Some(divergence) = term.divergence() {
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

/// What the policy losses of a micro-batch give, by blocks of responses.
struct Policies<B: Backend> {
    /// The gradients with respect to the states of the loss's site.
    states: Vec<Tensor<B, 2>>,
    /// The same of each further site; none for those without a policy loss.
    of_sites: Vec<Vec<Tensor<B, 2>>>,
    /// The weights of each further site's divergences, one per token, if it has one.
    weights: Vec<Vec<f32>>,
}

/// The gradients of the policy losses with respect to the states of the loss's site and of the further sites; adds those with respect
/// to the unembedding. Responses whose logits can be saved together have their forward and backward pass before the next ones.
fn policy_losses<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    batch: &SequenceBatch,
    main: &InternalPolicy<B>,
    (terms, further): (&[SiteTerm], &[InternalPolicy<B>]),
    mut derivatives: impl FnMut(Range<usize>, &TokenStats, &[Option<&TokenStats>]) -> SiteDerivatives,
) -> Policies<B> {
    let mut unembedding = UnembeddingGradient::take(decoder, gradients);
    let mut of = Policies {
        states: Vec::new(),
        of_sites: terms.iter().map(|_| Vec::new()).collect(),
        weights: vec![Vec::new(); terms.len()],
    };
    for ResponseBlock { responses, tokens: rows } in batch.blocks(main.states_at_once()) {
        let targets = &batch.targets[rows.clone()];
        let main = main.of_states(rows.clone());
        let further: Vec<_> = further.iter().map(|policy| policy.of_states(rows.clone())).collect();
        let forward = main.forward(targets);
        let forwards: Vec<Option<PolicyForward<'_, B>>> = terms
            .iter()
            .zip(&further)
            .map(|(term, policy)| (term.weight != 0.0).then(|| policy.forward(targets)))
            .collect();
        let stats: Vec<Option<&TokenStats>> =
            forwards.iter().map(|forward| forward.as_ref().map(|forward| &forward.stats)).collect();
        let SiteDerivatives { policy: by_policy, terms: by_terms } = derivatives(responses, &forward.stats, &stats);
        of.states.push(unembedding.backward(forward, &by_policy));
        for (((forward, derivatives), d_states), weights) in
            forwards.into_iter().zip(by_terms).zip(&mut of.of_sites).zip(&mut of.weights)
        {
            if let (Some(forward), Some(derivatives)) = (forward, derivatives.policy) {
                d_states.push(unembedding.backward(forward, &derivatives));
            }
            weights.extend(derivatives.divergence.into_iter().flatten());
        }
    }
    unembedding.give(decoder, gradients);
    of
}

/// The gradient with respect to the unembedding, taken from all gradients to be added to in place.
struct UnembeddingGradient<B: Backend> {
    is_trained: bool,
    /// `[vocab, hidden]`; `None` for 0.
    sum: Option<Tensor<B, 2>>,
}

impl<B: Backend> UnembeddingGradient<B> {
    fn take(decoder: &Decoder<B>, gradients: &mut Gradients<B>) -> Self {
        let shape = decoder.unembedding().dims();
        let sum = gradients.take(decoder.unembedding_id()).map(|sum| sum.reshape(shape));
        Self { is_trained: gradients.wants(decoder.unembedding_id()), sum }
    }

    fn give(self, decoder: &Decoder<B>, gradients: &mut Gradients<B>) {
        if let Some(sum) = self.sum {
            gradients.add(decoder.unembedding_id(), sum);
        }
    }

    /// The gradient with respect to a policy's states; adds that of the unembedding, if it is trained.
    fn backward(&mut self, forward: PolicyForward<'_, B>, derivatives: &TokenDerivatives) -> Tensor<B, 2> {
        if !self.is_trained {
            return forward.backward_states(derivatives);
        }
        let PolicyGradient { states, unembedding } = forward.backward_onto(derivatives, self.sum.take());
        self.sum = Some(unembedding);
        states
    }
}
