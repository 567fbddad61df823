//! Log-prob differences between sampling and training, and the full policy's drift from the initial policy.

use bupo_core::{Norm, PolicySite};
use bupo_eval::Group;
use bupo_models::{Decoder, Sequence};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::RlError;
use crate::update::{PolicySpec, response_stats};

/// The number of responses measured per step: the first of as many groups.
const RESPONSES: usize = 16;

/// Absolute differences in nats between the log-probs of the same tokens under the full policy at sampling and in the training
/// forward pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SamplingLogpDifference {
    /// The mean.
    pub(crate) mean: f64,
    /// The maximum.
    pub(crate) max: f64,
    /// The full policy's mean entropy at these tokens, in nats.
    pub(crate) entropy: f64,
}

/// Responses of the policy before training and its log-probs of their tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InitialPolicy {
    sequences: Vec<Sequence>,
    log_probs: Vec<Vec<f32>>,
    temperature: f64,
}

/// The first response of each of the first groups, and its log-probs at sampling.
pub(crate) fn first_responses(groups: &[Group]) -> (Vec<Sequence>, Vec<Vec<f32>>) {
    let first = groups
        .iter()
        .take(RESPONSES)
        .filter_map(|group| Some((group.sequences().next()?, group.responses.first()?.log_probs.clone())));
    first.unzip()
}

/// Compares the log-probs at sampling, `sampled`, with those of the training forward pass; `None` without tokens.
///
/// # Errors
/// As [`response_stats`].
pub(crate) fn sampling_logp_difference<B: Backend>(
    decoder: &Decoder<B>,
    sequences: &[Sequence],
    sampled: &[Vec<f32>],
    temperature: f64,
    max_tokens_per_batch: usize,
) -> Result<Option<SamplingLogpDifference>, RlError> {
    let stats = response_stats(decoder, sequences, &full_policy(temperature), max_tokens_per_batch)?;
    let differences: Vec<f64> =
        log_prob_differences(sampled, stats.iter().map(|stats| &stats.log_probs)).map(f64::abs).collect();
    let entropies = stats.iter().flat_map(|stats| &stats.entropy).copied().map(f64::from);
    let tokens = differences.len() as f64;
    Ok((!differences.is_empty()).then(|| SamplingLogpDifference {
        mean: differences.iter().sum::<f64>() / tokens,
        max: differences.iter().copied().fold(0.0, f64::max),
        entropy: entropies.sum::<f64>() / tokens,
    }))
}

impl InitialPolicy {
    /// Computes the log-probs of the policy's own responses before training.
    ///
    /// # Errors
    /// As [`response_stats`].
    pub(crate) fn new<B: Backend>(
        decoder: &Decoder<B>,
        sequences: Vec<Sequence>,
        temperature: f64,
        max_tokens_per_batch: usize,
    ) -> Result<Self, RlError> {
        let stats = response_stats(decoder, &sequences, &full_policy(temperature), max_tokens_per_batch)?;
        Ok(Self { sequences, log_probs: stats.into_iter().map(|stats| stats.log_probs).collect(), temperature })
    }

    /// The mean decrease of the log-probs of the stored tokens: an estimate of KL(before training || now) in nats per token.
    ///
    /// # Errors
    /// As [`response_stats`].
    pub(crate) fn drift<B: Backend>(&self, decoder: &Decoder<B>, max_tokens_per_batch: usize) -> Result<f64, RlError> {
        let now = response_stats(decoder, &self.sequences, &full_policy(self.temperature), max_tokens_per_batch)?;
        let tokens: usize = self.log_probs.iter().map(Vec::len).sum();
        let sum: f64 = log_prob_differences(&self.log_probs, now.iter().map(|stats| &stats.log_probs)).sum();
        Ok(sum / tokens.max(1) as f64)
    }
}

fn full_policy(temperature: f64) -> PolicySpec {
    PolicySpec { site: PolicySite::Full, norm: Norm::None, temperature }
}

fn log_prob_differences<'a>(
    first: &'a [Vec<f32>],
    second: impl Iterator<Item = &'a Vec<f32>> + 'a,
) -> impl Iterator<Item = f64> + 'a {
    let pairs = first.iter().zip(second).flat_map(|(first, second)| first.iter().zip(second));
    pairs.map(|(first, second)| f64::from(*first) - f64::from(*second))
}
