//! Statistics of all internal policies on responses, in one forward pass.

use bupo_core::{
    CoreError, InternalPolicy, Norm, PolicyComparison, PolicySite, ResidualDecoder, SiteLogits, cosines, norms,
    participation_ratios,
};
use burn::tensor::{Tensor, backend::Backend};

use crate::attribution::AttributionPass;
use crate::generate::{check_tokens, padded_tokens};
use crate::sequence::{Sequence, SequenceBatch};
use crate::{Attribution, Decoder, ModelError};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeasureOptions {
    /// The norm between a site's state and the unembedding.
    pub norm: Norm,
    /// The last layer to run and measure; `None` for all. With a value, sites are not compared with the full policy, and logits are
    /// not attributed.
    pub layers: Option<usize>,
}

/// One site's statistics on a response. Every list has one value per response token.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteMeasures {
    /// The site.
    pub site: PolicySite,
    /// Its policy, compared with the full policy.
    pub policy: PolicyComparison,
    /// The entropy of its input in nats: for a layer that of `H^{l-1}` with the same norm, for attention and
    /// feed-forward that of their post-norm input (arXiv 2512.19673, section 4).
    pub input_entropy: Vec<f32>,
    /// The cosine of the contribution with the state it is added to; for a layer, of `H^l` with `H^{l-1}`.
    pub cosine: Vec<f32>,
    /// The Euclidean norm of the site's state, before any norm.
    pub state_norm: Vec<f32>,
    /// The participation ratio ([`participation_ratios`]) of the response's states, before any norm.
    pub participation: f64,
    /// What the site added to the full policy's logit of the response token ([`crate::attribution`](fn@crate::attribution)); `None`
    /// if not all layers ran.
    pub attribution: Option<Vec<f32>>,
    /// What all that came before the site added to it.
    pub input_attribution: Option<Vec<f32>>,
}

/// The statistics of all sites on a response.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseMeasures {
    /// `attn:1`, `ffn:1`, `layer:1`, `attn:2` and so on.
    pub sites: Vec<SiteMeasures>,
    /// The full policy; `None` if not all layers ran.
    pub full: Option<PolicyComparison>,
    /// The full policy's logits of the response tokens; `None` if not all layers ran.
    pub logits: Option<Vec<f32>>,
}

impl SiteMeasures {
    /// The entropy change at each token: output minus input.
    pub fn entropy_change(&self) -> impl Iterator<Item = f32> + '_ {
        self.policy.entropy.iter().zip(&self.input_entropy).map(|(output, input)| output - input)
    }
}

/// Measures every layer, attention and feed-forward policy on the tokens of each sequence's response, all sequences in
/// one padded batch.
///
/// The state at one position predicts the next token, so a response of n tokens is measured at the n positions from the
/// prompt's last token on. The states of all sites at those positions are held until the last layer has run; logits are
/// held for one chunk at a time.
///
/// # Errors
/// If `options.layers` is outside the model, a prompt or response is empty, an id is outside the vocabulary, or the norm is
/// [`Norm::Tuned`] and the decoder has no tuned lens.
pub fn measure<B: Backend>(
    decoder: &Decoder<B>,
    sequences: &[Sequence],
    options: MeasureOptions,
) -> Result<Vec<ResponseMeasures>, ModelError> {
    sequences.iter().try_for_each(|sequence| sequence.check(decoder.vocab_size()))?;
    let num_layers = decoder.num_layers();
    let depth = PolicySite::Layer(options.layers.unwrap_or(num_layers)).depth(num_layers)?;
    if sequences.is_empty() {
        return Ok(Vec::new());
    }
    let batch = decoder.batch(sequences);
    Ok(Sites::run(decoder, &batch, options, depth)?.by_response(&batch))
}

/// The entropies in nats of the embedding's policy and of every attention, feed-forward and layer policy, without a
/// norm, at every token of `rows` padded to one length: in the order of the stream, `[rows * longest]` each.
///
/// # Errors
/// If a row is empty, or an id is outside the vocabulary.
pub fn entropies<B: Backend>(decoder: &Decoder<B>, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, ModelError> {
    check_tokens(rows, decoder.vocab_size())?;
    let tokens = padded_tokens(rows, &decoder.device());
    let mut context = decoder.prefill_context(tokens.dims()[1]);
    let mut stream = decoder.stream(tokens, &mut context);
    let part = |state: Tensor<B, 3>| SiteLogits::Part(InternalPolicy::new(state.flatten(0, 1), decoder.unembedding()));
    let mut sites = vec![part(stream.state())];
    for step in stream.by_ref() {
        sites.extend([part(step.attn.output), part(step.ffn.output), SiteLogits::Sum]);
    }
    Ok(InternalPolicy::entropies(&sites))
}

/// Statistics of the sites at all positions of a batch.
struct Sites {
    sites: Vec<BlockSite>,
    full: Option<PolicyComparison>,
    /// Of the response tokens, with a site for each of `sites`.
    attribution: Option<Attribution>,
}

struct BlockSite {
    site: PolicySite,
    policy: PolicyComparison,
    input_entropy: Vec<f32>,
    cosine: Vec<f32>,
    state_norm: Vec<f32>,
    participation: Vec<f64>,
}

impl Sites {
    fn run<B: Backend>(
        decoder: &Decoder<B>,
        batch: &SequenceBatch,
        options: MeasureOptions,
        depth: usize,
    ) -> Result<Self, CoreError> {
        let predicting = |state: Tensor<B, 3>| batch.gather_states(state.flatten(0, 1));
        let policy = |state: Tensor<B, 3>| InternalPolicy::new(predicting(state), decoder.unembedding());
        let mut context = decoder.batch_context(batch);
        let mut stream = decoder.stream(batch.tokens(&decoder.device()), &mut context);
        let mut policies = Vec::with_capacity(3 * depth + 2);
        let mut sites = Vec::with_capacity(3 * depth);
        // Without a norm, the logits of the embedding and of the contributions add up.
        let adds_up = options.norm == Norm::None;
        let logits = |site: PolicySite, state: Tensor<B, 3>| -> Result<SiteLogits<B>, CoreError> {
            Ok(match site {
                PolicySite::Layer(1..) if adds_up => SiteLogits::Sum,
                _ if adds_up => SiteLogits::Part(policy(state)),
                _ => SiteLogits::Own(policy(decoder.normed(site, options.norm, state)?)),
            })
        };
        // The embedding is the state after no layer.
        policies.push(logits(PolicySite::Layer(0), stream.state())?);
        let is_whole = options.layers.is_none();
        let mut attribution =
            is_whole.then(|| AttributionPass::new(decoder, batch.targets.clone(), predicting(stream.state())));
        for step in stream.by_ref().take(depth) {
            if let Some(pass) = &mut attribution {
                pass.layer(predicting(step.attn.output.clone()), predicting(step.ffn.output.clone()));
            }
            let [attn_in, ffn_in] = [step.attn.input, step.ffn.input].map(|input| policy(input).entropy());
            for (site, state, before, input_entropy) in [
                (PolicySite::Attn(step.layer), step.attn.output, step.resid_pre.clone(), attn_in),
                (PolicySite::Ffn(step.layer), step.ffn.output, step.resid_mid, ffn_in),
                // Filled in below with the entropy of the layer before.
                (PolicySite::Layer(step.layer), step.resid_post, step.resid_pre, Vec::new()),
            ] {
                policies.push(logits(site, state.clone())?);
                let (state, before) = (predicting(state), predicting(before));
                sites.push(BlockSite {
                    site,
                    policy: PolicyComparison::default(),
                    input_entropy,
                    cosine: cosines(state.clone(), before),
                    state_norm: norms(state.clone()),
                    participation: participation_ratios(state, &batch.lengths),
                });
            }
        }
        let attribution = attribution.map(|pass| pass.finish(decoder, predicting(stream.state())));
        let full = is_whole.then(|| policy(decoder.final_norm(stream.state())));
        policies.extend(full.clone().map(SiteLogits::Own));
        let mut compared = InternalPolicy::compare(&policies, full.as_ref(), &batch.targets);
        let full = full.and_then(|_| compared.pop());
        let mut compared = compared.into_iter();
        let mut layer_entropy = compared.next().map(|embedding| embedding.entropy).unwrap_or_default();
        for (site, policy) in sites.iter_mut().zip(compared) {
            if let PolicySite::Layer(_) = site.site {
                site.input_entropy = std::mem::replace(&mut layer_entropy, policy.entropy.clone());
            }
            site.policy = policy;
        }
        Ok(Self { sites, full, attribution })
    }

    fn by_response(&self, batch: &SequenceBatch) -> Vec<ResponseMeasures> {
        let ends = batch.lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let places = ends.zip(&batch.lengths).map(|(end, length)| end - length..end);
        let part = |values: &Vec<f32>, places: &std::ops::Range<usize>| values[places.clone()].to_vec();
        let attributed = |index: usize| self.attribution.as_ref().map(|attribution| &attribution.sites[index]);
        let response = |(row, places): (usize, std::ops::Range<usize>)| ResponseMeasures {
            sites: self
                .sites
                .iter()
                .enumerate()
                .map(|(index, site)| SiteMeasures {
                    site: site.site,
                    policy: site.policy.part(places.clone()),
                    input_entropy: part(&site.input_entropy, &places),
                    cosine: part(&site.cosine, &places),
                    state_norm: part(&site.state_norm, &places),
                    participation: site.participation[row],
                    attribution: attributed(index).map(|attributed| part(&attributed.added, &places)),
                    input_attribution: attributed(index).map(|attributed| part(&attributed.before, &places)),
                })
                .collect(),
            full: self.full.as_ref().map(|full| full.part(places.clone())),
            logits: self.attribution.as_ref().map(|attribution| part(&attribution.logits, &places)),
        };
        places.enumerate().map(response).collect()
    }
}
