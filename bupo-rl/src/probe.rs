//! The internal policies seen from inside a run, and the boundary layer found at its beginning.

use std::collections::BTreeMap;
use std::time::Instant;

use bupo_analysis::{Analysis, Boundary, DEFAULT_TOLERANCE, Statistic, Subject, Tally};
use bupo_core::Norm;
use bupo_models::{Decoder, MeasureOptions, Sequence};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::RlError;
use crate::evaluate::Group;

/// What a probe says of each policy.
const STATISTICS: [Statistic; 5] =
    [Statistic::Entropy, Statistic::EntropyChange, Statistic::Kl, Statistic::Agreement, Statistic::Cosine];
/// How many of the first responses the boundary is found on.
const BOUNDARY_RESPONSES: usize = 64;

/// Responses on which the internal policies are measured again and again. They stay the same, so that what changes from one
/// measurement to the next is the model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    responses: Vec<(Sequence, Option<f64>)>,
}

/// A line of `probe.jsonl`: means over the probe's tokens, norm `none`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeLine {
    /// The step after which it was measured; 0 before the first.
    pub step: usize,
    /// By statistic, then by policy site.
    pub means: BTreeMap<Statistic, BTreeMap<String, f64>>,
    /// Response tokens measured.
    pub tokens: usize,
    /// Seconds it took.
    pub seconds: f64,
}

impl Probe {
    /// The first response to each of the first `prompts` questions.
    pub(crate) fn new(groups: &[Group], prompts: usize) -> Self {
        Self { responses: responses(groups, 1).take(prompts).collect() }
    }

    pub(crate) fn measure<B: Backend>(&self, decoder: &Decoder<B>, step: usize) -> Result<ProbeLine, RlError> {
        let started = Instant::now();
        let mut tally = Tally::default();
        tally.measure(decoder, &self.responses, MeasureOptions::default())?;
        Ok(ProbeLine {
            step,
            means: STATISTICS.into_iter().map(|statistic| (statistic, tally.means(statistic))).collect(),
            tokens: tally.tokens(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

/// The boundary layer by the first responses of some groups; nothing where dynamic sampling left none.
pub(crate) fn find_boundary<B: Backend>(decoder: &Decoder<B>, groups: &[Group]) -> Result<Option<Boundary>, RlError> {
    let mut tally = Tally::default();
    let first: Vec<_> = responses(groups, usize::MAX).take(BOUNDARY_RESPONSES).collect();
    if first.is_empty() {
        return Ok(None);
    }
    tally.measure(decoder, &first, MeasureOptions::default())?;
    let subject = Subject {
        model: String::new(),
        norm: Norm::None,
        num_layers: decoder.layers.len(),
        vocab_size: decoder.vocab_size(),
        tolerance: DEFAULT_TOLERANCE,
    };
    Ok(Analysis::new(subject, &tally)?.boundary)
}

fn responses(groups: &[Group], of_each: usize) -> impl Iterator<Item = (Sequence, Option<f64>)> + '_ {
    groups.iter().flat_map(move |group| {
        group.responses.iter().take(of_each).map(|response| {
            let sequence = Sequence { prompt: group.question.tokens.clone(), response: response.tokens.clone() };
            (sequence, Some(response.graded.score))
        })
    })
}
