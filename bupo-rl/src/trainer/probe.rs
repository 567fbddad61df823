//! The probe: statistics of every internal policy, measured repeatedly on the same responses during training.

use std::collections::BTreeMap;
use std::time::Instant;

use bupo_analysis::{MeasureAccumulator, Statistic};
use bupo_eval::Group;
use bupo_models::{Decoder, MeasureOptions, ScoredSequence};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::RlError;

/// The statistics of each policy.
const STATISTICS: [Statistic; 5] =
    [Statistic::Entropy, Statistic::EntropyChange, Statistic::Kl, Statistic::Agreement, Statistic::Cosine];

/// The responses on which the internal policies are measured. They stay the same, so that differences between measurements
/// come from the model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    responses: Vec<ScoredSequence>,
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
    /// Duration in seconds.
    pub seconds: f64,
}

impl Probe {
    /// The first response to each of the first `prompts` questions.
    pub(crate) fn new(groups: &[Group], prompts: usize) -> Self {
        Self { responses: groups.iter().filter_map(|group| group.scored_sequences().next()).take(prompts).collect() }
    }

    pub(crate) fn measure<B: Backend>(&self, decoder: &Decoder<B>, step: usize) -> Result<ProbeLine, RlError> {
        let started = Instant::now();
        let mut accumulator = MeasureAccumulator::default();
        accumulator.measure(decoder, &self.responses, MeasureOptions::default(), &|_| ())?;
        Ok(ProbeLine {
            step,
            means: STATISTICS.into_iter().map(|statistic| (statistic, accumulator.means(statistic))).collect(),
            tokens: accumulator.tokens(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}
