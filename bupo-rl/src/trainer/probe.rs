//! The probe: statistics of every internal policy, measured repeatedly on the same responses during training.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use bupo_analysis::{MeasureAccumulator, Statistic};
use bupo_eval::Group;
use bupo_models::{Decoder, MeasureOptions, ScoredSequence};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::probe_states::ProbeStates;
use crate::RlError;

/// The statistics of each policy.
const STATISTICS: [Statistic; 5] =
    [Statistic::Entropy, Statistic::EntropyChange, Statistic::Kl, Statistic::Agreement, Statistic::Cosine];

/// The responses on which the internal policies are measured. They stay the same, so that differences between measurements
/// come from the model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    responses: Vec<ScoredSequence>,
    /// The states before training; they are kept in the run's folder, beside the checkpoints.
    #[serde(skip)]
    before: Option<ProbeStates>,
}

/// By policy site.
pub(super) type Means = BTreeMap<String, f64>;

/// A line of `probe.jsonl`: means over the probe's tokens, norm `none`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeLine {
    /// The step after which it was measured; 0 before the first.
    pub step: usize,
    /// By statistic, then by policy site.
    pub means: BTreeMap<Statistic, Means>,
    /// Response tokens measured.
    pub tokens: usize,
    /// Duration in seconds.
    pub seconds: f64,
}

impl Probe {
    /// The first response to each of the first `prompts` questions.
    pub(crate) fn new(groups: &[Group], prompts: usize) -> Self {
        let responses = groups.iter().filter_map(|group| group.scored_sequences().next()).take(prompts).collect();
        Self { responses, before: None }
    }

    /// Keeps the states of the layers before training, to compare later ones with, also in the run's folder.
    pub(crate) fn keep_states<B: Backend>(&mut self, decoder: &Decoder<B>, run: &Path) -> Result<(), RlError> {
        let states = ProbeStates::of(decoder, &self.responses)?;
        states.write(run)?;
        self.before = Some(states);
        Ok(())
    }

    /// Reads the states before training from the folder of a run that is continued.
    pub(crate) fn read_states(&mut self, run: &Path) -> Result<(), RlError> {
        self.before = ProbeStates::read(run)?;
        Ok(())
    }

    pub(crate) fn measure<B: Backend>(&self, decoder: &Decoder<B>, step: usize) -> Result<ProbeLine, RlError> {
        let started = Instant::now();
        let mut accumulator = MeasureAccumulator::default();
        accumulator.measure(decoder, &self.responses, MeasureOptions::default(), &|_| ())?;
        let similarities =
            ProbeStates::of(decoder, &self.responses)?.similarities::<B>(self.before.as_ref(), &decoder.device());
        let means = STATISTICS.into_iter().map(|statistic| (statistic, accumulator.means(statistic)));
        Ok(ProbeLine {
            step,
            means: means.chain(similarities).collect(),
            tokens: accumulator.tokens(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}
