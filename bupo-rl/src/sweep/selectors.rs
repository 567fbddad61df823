//! What is known of the layers before any training, by which one could be selected.

use bupo_analysis::{Analysis, AnalysisInfo, Boundary, DEFAULT_TOLERANCE, MeasureAccumulator, Slice, Statistic};
use bupo_core::PolicySite;
use bupo_eval::Group;
use bupo_models::{Decoder, MeasureOptions};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::RlError;
use crate::config::{TrainConfig, TruncatedReward};
use crate::phases::{Samples, find_boundary};
use crate::rollout::advantages;
use crate::update::{LossSpec, PolicySpec, Sample, gradient};

/// The number of responses on which the policies are compared.
const RESPONSES: usize = 64;

/// Measures of the model before training, on the responses that its first step samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selectors {
    /// Responses sampled. The gradients are over all of them, the other measures over the first 64.
    pub responses: usize,
    /// The boundary layer of the entropy, as `layer = "auto"` finds it.
    pub boundary: Option<Boundary>,
    /// By site.
    pub sites: Vec<SiteSelectors>,
}

/// The measures of one site. `None` where there is none: the full policy has no layer, equal rewards have no gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteSelectors {
    /// The site.
    pub site: PolicySite,
    /// KL(site's policy || full policy), in nats per token.
    pub kl_to_full: Option<f64>,
    /// The cosine of the gradients of the site's policy loss and of the full policy's, over the parameters that both
    /// depend on.
    pub gradient_cosine: Option<f64>,
    /// The entropy change by the feed-forward of the site's layer, in nats: what the boundary layer is chosen by.
    pub entropy_change: Option<f64>,
    /// The layer's share in the stream: 1 minus the cosine of `H^l` and `H^{l-1}` (block influence, arXiv 2403.03853).
    pub block_influence: Option<f64>,
}

impl Selectors {
    /// Measures sites on the responses `groups` of a run's first step.
    pub(crate) fn measure<B: Backend>(
        decoder: &Decoder<B>,
        groups: &[Group],
        sites: &[PolicySite],
        config: &TrainConfig,
    ) -> Result<Self, RlError> {
        let norm = config.phases.first().map(|phase| phase.norm).unwrap_or_default();
        let boundary = find_boundary(decoder, groups)?;
        let mut accumulator = MeasureAccumulator::default();
        let first: Vec<_> = groups.iter().flat_map(Group::scored_sequences).take(RESPONSES).collect();
        accumulator.measure(decoder, &first, MeasureOptions { norm, layers: None }, &|_| ())?;
        let info = AnalysisInfo {
            model: String::new(),
            title: String::new(),
            norm,
            num_layers: decoder.layers.len(),
            vocab_size: decoder.vocab_size(),
            tolerance: DEFAULT_TOLERANCE,
            settings: Default::default(),
        };
        let analysis = Analysis::new(info, &accumulator)?;
        let mean = |site, statistic| analysis.row(site, statistic, Slice::All).map(|row| row.estimate.mean);
        let samples = samples(groups, config);
        let loss_of =
            |site: PolicySite| loss(config, PolicySpec { site, norm, temperature: config.rollout.temperature });
        let full = gradient(decoder, &samples, &loss_of(PolicySite::Full))?;
        let mut measured = Vec::with_capacity(sites.len());
        for site in sites {
            let layer = site.layer();
            let own = match layer {
                Some(_) => Some(gradient(decoder, &samples, &loss_of(*site))?),
                None => None,
            };
            measured.push(SiteSelectors {
                site: *site,
                kl_to_full: layer.and_then(|_| mean(*site, Statistic::Kl)),
                gradient_cosine: own.and_then(|own| own.cosine(&full)),
                entropy_change: layer.and_then(|layer| boundary.as_ref()?.changes.get(layer - 1).copied()),
                block_influence: layer.and_then(|layer| Some(1.0 - mean(PolicySite::Layer(layer), Statistic::Cosine)?)),
            });
        }
        let responses = groups.iter().map(|group| group.responses.len()).sum();
        Ok(Self { responses, boundary, sites: measured })
    }

    /// The measures of a site.
    pub fn of(&self, site: PolicySite) -> Option<&SiteSelectors> {
        self.sites.iter().find(|measured| measured.site == site)
    }
}

/// The policy loss of a site, with the samples of the first phase's sign and without its further sites.
fn loss(config: &TrainConfig, policy: PolicySpec) -> LossSpec {
    let mut loss = LossSpec::from_config(config, policy);
    match config.phases.first().map(|phase| phase.samples).unwrap_or_default() {
        Samples::All => {}
        Samples::Positive => loss.objective.negative_weight = 0.0,
        Samples::Negative => loss.objective.positive_weight = 0.0,
    }
    loss
}

/// The responses with their advantages. Before the first update the policy is its own old policy and its own reference.
fn samples(groups: &[Group], config: &TrainConfig) -> Vec<Sample> {
    let masks = config.truncated_reward() == TruncatedReward::Mask;
    let advantages = advantages(groups, &config.objective, &config.rollout, None).values;
    let mut samples = Vec::new();
    for (group, advantages) in groups.iter().zip(advantages) {
        for ((sequence, response), advantage) in group.sequences().zip(&group.responses).zip(advantages) {
            if sequence.response.is_empty() || (masks && !response.finished) {
                continue;
            }
            samples.push(Sample {
                sequence,
                advantage,
                critic: None,
                old_log_probs: None,
                ref_log_probs: None,
                sampling: None,
                chosen: Default::default(),
                terms: Vec::new(),
            });
        }
    }
    samples
}
