//! Whether what is trained is what was sampled, and what training has done to the full policy.

use bupo_core::{Norm, PolicySite};
use bupo_eval::Group;
use bupo_models::{Decoder, Sequence};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::RlError;
use crate::update::{PolicySpec, response_stats};

/// How many of a step's responses are looked at: the first of as many groups.
const RESPONSES: usize = 16;

/// How far the log-probs of the same tokens under the same policy are apart, as they were when the tokens were sampled and as the
/// pass that trains finds them. Nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SamplingLogpDifference {
    /// Mean distance.
    pub(crate) mean: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// Responses of the policy before training, with its log-probs, on which is measured how far training has moved it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InitialPolicy {
    sequences: Vec<Sequence>,
    log_probs: Vec<Vec<f32>>,
    temperature: f64,
}

/// The first responses to the first of a step's questions, as sequences with the log-probs they were sampled with.
pub(crate) fn first_responses(groups: &[Group]) -> (Vec<Sequence>, Vec<Vec<f32>>) {
    let first = groups
        .iter()
        .take(RESPONSES)
        .filter_map(|group| Some((group.sequences().next()?, group.responses.first()?.log_probs.clone())));
    first.unzip()
}

/// Compares what responses were sampled with to what the pass that trains says of them.
///
/// # Errors
/// As [`response_stats`].
pub(crate) fn sampling_logp_difference<B: Backend>(
    decoder: &Decoder<B>,
    sequences: &[Sequence],
    sampled: &[Vec<f32>],
    temperature: f64,
    max_tokens_per_batch: usize,
) -> Result<SamplingLogpDifference, RlError> {
    let stats = response_stats(decoder, sequences, &full(temperature), max_tokens_per_batch)?;
    let gaps: Vec<f64> = differences(sampled, stats.iter().map(|stats| &stats.log_probs)).map(f64::abs).collect();
    Ok(SamplingLogpDifference {
        mean: gaps.iter().sum::<f64>() / gaps.len().max(1) as f64,
        max: gaps.iter().copied().fold(0.0, f64::max),
    })
}

impl InitialPolicy {
    /// Of the policy that is to be trained, on some of its responses.
    ///
    /// # Errors
    /// As [`response_stats`].
    pub(crate) fn new<B: Backend>(
        decoder: &Decoder<B>,
        sequences: Vec<Sequence>,
        temperature: f64,
        max_tokens_per_batch: usize,
    ) -> Result<Self, RlError> {
        let stats = response_stats(decoder, &sequences, &full(temperature), max_tokens_per_batch)?;
        Ok(Self { sequences, log_probs: stats.into_iter().map(|stats| stats.log_probs).collect(), temperature })
    }

    /// How much less probable the policy finds a token of its former responses, on the mean: an estimate of
    /// KL(before training || now) in nats per token.
    ///
    /// # Errors
    /// As [`response_stats`].
    pub(crate) fn drift<B: Backend>(&self, decoder: &Decoder<B>, max_tokens_per_batch: usize) -> Result<f64, RlError> {
        let now = response_stats(decoder, &self.sequences, &full(self.temperature), max_tokens_per_batch)?;
        let tokens: usize = self.log_probs.iter().map(Vec::len).sum();
        let sum: f64 = differences(&self.log_probs, now.iter().map(|stats| &stats.log_probs)).sum();
        Ok(sum / tokens.max(1) as f64)
    }
}

fn full(temperature: f64) -> PolicySpec {
    PolicySpec { site: PolicySite::Full, norm: Norm::None, temperature }
}

fn differences<'a>(
    first: &'a [Vec<f32>],
    second: impl Iterator<Item = &'a Vec<f32>> + 'a,
) -> impl Iterator<Item = f64> + 'a {
    let pairs = first.iter().zip(second).flat_map(|(first, second)| first.iter().zip(second));
    pairs.map(|(first, second)| f64::from(*first) - f64::from(*second))
}
