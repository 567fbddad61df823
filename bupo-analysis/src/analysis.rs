//! The analysis of one model: means with confidence intervals, stages, boundary layer and the decrease of the entropy.

use bupo_core::{Norm, PolicySite};
use serde_json::{Map, Value};

use crate::AnalysisError;
use crate::accumulator::{COLUMNS, MeasureAccumulator};
use crate::bootstrap::{Estimate, Resamples};
use crate::boundary::Boundary;
use crate::convergence::Convergence;
use crate::slice::Slice;
use crate::statistic::Statistic;

/// The analyzed model and the options.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalysisInfo {
    /// The model as it was named: a path or a Hub id.
    pub model: String,
    /// Its name in titles: the last part of a path, or the Hub id.
    pub title: String,
    /// Norm between internal states and the unembedding.
    pub norm: Norm,
    /// Number of layers.
    pub num_layers: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Entropy changes up to this fraction of ln V count as no change.
    pub tolerance: f64,
    /// How the responses were made and measured, for the summary and the page: what an analysis needs to be made again.
    pub settings: Map<String, Value>,
}

/// The mean of one statistic of one policy over one slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The policy.
    pub site: PolicySite,
    /// The statistic.
    pub statistic: Statistic,
    /// The slice.
    pub slice: Slice,
    /// Mean and confidence interval.
    pub estimate: Estimate,
    /// Responses that have tokens in the slice.
    pub responses: usize,
    /// Tokens in the slice.
    pub tokens: usize,
}

/// The results of one model.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// The analyzed model and the options.
    pub info: AnalysisInfo,
    /// Number of responses.
    pub responses: usize,
    /// Number of response tokens.
    pub tokens: usize,
    /// Number of responses with a score.
    pub scored: usize,
    /// Mean score; nothing if no response has one.
    pub mean_score: Option<f64>,
    /// The means of all statistics, policies and slices.
    pub rows: Vec<Row>,
    /// The boundary layer; nothing if not all layers were measured.
    pub boundary: Option<Boundary>,
    /// How the layer policies' entropy decreases; nothing if not all layers were measured.
    pub convergence: Option<Convergence>,
}

impl Analysis {
    /// Computes means and intervals, stages, boundary layer and the decrease of the entropy.
    ///
    /// # Errors
    /// If there are no responses.
    pub fn new(info: AnalysisInfo, accumulator: &MeasureAccumulator) -> Result<Self, AnalysisError> {
        if accumulator.responses() == 0 {
            return Err(AnalysisError::Empty);
        }
        let resamples = Resamples::new(accumulator.responses());
        let mut rows = Vec::new();
        for slice in accumulator.slices() {
            let sums = accumulator.sums(slice);
            let responses = sums.counts.iter().filter(|count| **count > 0.0).count();
            let tokens = sums.counts.iter().sum::<f64>() as usize;
            for (index, estimate) in resamples.estimates(&sums).into_iter().enumerate() {
                let (site, statistic) = (accumulator.sites()[index / COLUMNS], Statistic::PER_TOKEN[index % COLUMNS]);
                rows.extend(estimate.map(|estimate| Row { site, statistic, slice, estimate, responses, tokens }));
            }
        }
        let participation = resamples.estimates(&accumulator.participation());
        rows.extend(accumulator.sites().iter().zip(participation).filter_map(|(site, estimate)| {
            let (responses, tokens) = (accumulator.responses(), accumulator.tokens());
            let statistic = Statistic::Participation;
            estimate.map(|estimate| Row { site: *site, statistic, slice: Slice::All, estimate, responses, tokens })
        }));
        let scores: Vec<f64> = accumulator.scores().collect();
        let mut analysis = Self {
            responses: accumulator.responses(),
            tokens: accumulator.tokens(),
            scored: scores.len(),
            mean_score: (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
            rows,
            boundary: None,
            convergence: None,
            info,
        };
        if accumulator.sites().last() == Some(&PolicySite::Full) {
            analysis.convergence = Some(Convergence::of(&analysis.stream_entropies(), analysis.info.vocab_size));
            analysis.boundary = Some(analysis.find_boundary(accumulator, &resamples));
        }
        Ok(analysis)
    }

    /// The mean of a statistic, if it was measured.
    pub fn row(&self, site: PolicySite, statistic: Statistic, slice: Slice) -> Option<&Row> {
        self.rows.iter().find(|row| (row.site, row.statistic, row.slice) == (site, statistic, slice))
    }

    /// The mean of a statistic per layer, for one kind of policy, layer 1 first.
    pub fn by_layer(
        &self,
        site: fn(usize) -> PolicySite,
        statistic: Statistic,
        slice: Slice,
    ) -> Vec<(usize, Estimate)> {
        let layer = |layer: usize| self.row(site(layer), statistic, slice).map(|row| (layer, row.estimate));
        (1..=self.info.num_layers).filter_map(layer).collect()
    }

    /// Mean entropies of the policies of `H^0`, `H^1`, ..., `H^L`, in nats.
    pub fn stream_entropies(&self) -> Vec<f64> {
        let embedding = self.row(PolicySite::Layer(1), Statistic::InputEntropy, Slice::All);
        let layers = self.by_layer(PolicySite::Layer, Statistic::Entropy, Slice::All);
        embedding.iter().map(|row| row.estimate.mean).chain(layers.iter().map(|(_, estimate)| estimate.mean)).collect()
    }

    /// The slices that have rows, in order.
    pub fn slices(&self) -> Vec<Slice> {
        let mut slices: Vec<Slice> = Vec::new();
        for row in &self.rows {
            if !slices.contains(&row.slice) {
                slices.push(row.slice);
            }
        }
        slices
    }

    fn find_boundary(&self, accumulator: &MeasureAccumulator, resamples: &Resamples) -> Boundary {
        let sums = accumulator.sums(Slice::All);
        let change = Statistic::PER_TOKEN.iter().position(|statistic| *statistic == Statistic::EntropyChange);
        let columns = accumulator
            .sites()
            .iter()
            .enumerate()
            .filter(|(_, site)| matches!(site, PolicySite::Ffn(_)))
            .map(|(index, _)| index * COLUMNS + change.unwrap_or(0));
        // [layer][resample]
        let by_layer: Vec<Vec<f64>> =
            columns.map(|column| resamples.means(&sums, column, column + 1).remove(0)).collect();
        let count = by_layer.first().map_or(0, Vec::len);
        let resampled: Vec<Vec<f64>> =
            (0..count).map(|resample| by_layer.iter().map(|means| means[resample]).collect()).collect();
        let changes = self.by_layer(PolicySite::Ffn, Statistic::EntropyChange, Slice::All);
        let tolerance = self.info.tolerance * (self.info.vocab_size as f64).ln();
        let changes = changes.into_iter().map(|(_, estimate)| estimate.mean).collect();
        Boundary::find(changes, &resampled, tolerance, self.responses)
    }
}
