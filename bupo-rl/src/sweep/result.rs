//! The result of a sweep: what each variant gained, beside what was measured before training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bupo_analysis::Boundary;
use bupo_runs::{JsonLinesOptions, read_json_lines};
use serde::Serialize;

use super::plan::{SweepPlan, SweepRun, Variant};
use super::selectors::{Selectors, SiteSelectors};
use super::statistics::{MeanOverSeeds, rank_correlation};
use crate::RlError;
use crate::trainer::{Outcome, StepMetrics};

/// Version of the layout of `sweep.json`.
const SCHEMA: u32 = 1;

/// A finished run of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// Its folder within the sweep's.
    pub folder: PathBuf,
    /// Avg@K before training, on held-out problems.
    pub before: f64,
    /// Avg@K after training, on the same problems with the same random numbers.
    pub after: f64,
    /// `after - before`.
    pub gain: f64,
    /// Responses per problem, K of Avg@K; the fewest of several benchmarks.
    #[serde(skip)]
    pub samples: usize,
    /// The mean reward of the last quarter of the steps minus that of the first; `None` if a step has no graded
    /// response.
    pub reward_change: Option<f64>,
}

/// A variant of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepEntry {
    /// What was trained.
    pub variant: Variant,
    /// The layer, from 1; `None` for the full policy and all parameters.
    pub layer: Option<usize>,
    /// Avg@K after minus before training, over seeds.
    pub gain: MeanOverSeeds,
    /// The change of the training reward, over seeds.
    pub reward_change: Option<MeanOverSeeds>,
    /// The gain as a share of that of the full policy with all parameters (layer contribution, arXiv 2607.01232);
    /// `None` if that was not trained, or gained nothing.
    pub contribution: Option<f64>,
    /// What was measured before training.
    pub measured: Option<SiteSelectors>,
    /// Its runs.
    pub runs: Vec<RunResult>,
}

/// The result of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepResult {
    /// Version of the layout.
    pub schema: u32,
    /// Steps of each run.
    pub steps: usize,
    /// Responses per problem, K of Avg@K.
    pub samples: usize,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The variants, in the order in which they were named.
    pub entries: Vec<SweepEntry>,
    /// The boundary layer of the entropy before training.
    pub boundary: Option<Boundary>,
    /// Spearman's rank correlation of each measure and the mean gain, over the variants with a layer; `None` for fewer
    /// than three.
    pub rank_correlations: BTreeMap<String, Option<f64>>,
}

/// Takes a measure from those of a site.
type Measure = fn(&SiteSelectors) -> Option<f64>;

/// The measures by name.
const MEASURES: [(&str, Measure); 4] = [
    ("kl_to_full", |measured| measured.kl_to_full),
    ("gradient_cosine", |measured| measured.gradient_cosine),
    ("entropy_change", |measured| measured.entropy_change),
    ("block_influence", |measured| measured.block_influence),
];

impl RunResult {
    /// Reads a finished run.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn read(run: &SweepRun, folder: &Path) -> Result<Self, RlError> {
        let path = folder.join("evaluation.json");
        let text = std::fs::read_to_string(&path).map_err(RlError::io("read", &path))?;
        let damaged = |reason: String| RlError::NoData { path: path.clone(), reason };
        let outcome: Outcome = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let after = outcome.after.ok_or_else(|| damaged("it has no evaluation after training".into()))?;
        let metrics = read_json_lines::<StepMetrics>(&folder.join("metrics.jsonl"), JsonLinesOptions::default())?;
        let rewards: Vec<f64> = metrics.into_iter().map(|line| line.value.rollout.reward).collect();
        Ok(Self {
            seed: run.seed,
            folder: Path::new("runs").join(run.name()),
            before: outcome.before.avg_at_k,
            after: after.avg_at_k,
            gain: after.avg_at_k - outcome.before.avg_at_k,
            samples: after.samples,
            reward_change: reward_change(&rewards),
        })
    }
}

/// The mean of the last quarter of the rewards minus that of the first, of at least one each.
fn reward_change(rewards: &[f64]) -> Option<f64> {
    let count = rewards.len().div_ceil(4);
    let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
    let change = mean(&rewards[rewards.len() - count..]) - mean(&rewards[..count]);
    change.is_finite().then_some(change)
}

impl SweepResult {
    /// The result of finished runs: those of `plan`, each with its result.
    ///
    /// # Errors
    /// If the settings have no phase.
    pub fn new(
        plan: &SweepPlan,
        finished: &[(SweepRun, RunResult)],
        selectors: Option<&Selectors>,
    ) -> Result<Self, RlError> {
        let config = plan.measured()?;
        let mut entries: Vec<SweepEntry> = Vec::new();
        for variant in &plan.variants {
            let of_variant = finished.iter().filter(|(run, _)| run.variant == *variant);
            let runs: Vec<RunResult> = of_variant.map(|(_, result)| result.clone()).collect();
            let values = |of: fn(&RunResult) -> Option<f64>| runs.iter().filter_map(of).collect::<Vec<_>>();
            let Some(gain) = MeanOverSeeds::of(&values(|run| Some(run.gain))) else { continue };
            entries.push(SweepEntry {
                variant: *variant,
                layer: variant.site().layer(),
                gain,
                reward_change: MeanOverSeeds::of(&values(|run| run.reward_change)),
                contribution: None,
                measured: selectors.and_then(|selectors| selectors.of(variant.site())).cloned(),
                runs,
            });
        }
        let reference = entries.iter().find(|entry| entry.variant.is_reference()).map(|entry| entry.gain.mean);
        for entry in &mut entries {
            entry.contribution = reference.filter(|gain| *gain > 0.0).map(|gain| entry.gain.mean / gain);
        }
        let correlation = |of: Measure| {
            let pair = |entry: &SweepEntry| Some((of(entry.measured.as_ref()?)?, entry.gain.mean));
            let with_layer = entries.iter().filter(|entry| entry.layer.is_some());
            rank_correlation(&with_layer.filter_map(pair).collect::<Vec<_>>())
        };
        let rank_correlations = MEASURES.iter().map(|(name, of)| (name.to_string(), correlation(*of))).collect();
        Ok(Self {
            schema: SCHEMA,
            steps: config.phases.first().map_or(0, |phase| phase.steps),
            samples: finished.first().map_or(config.evaluation.samples, |(_, result)| result.samples),
            seeds: plan.seeds.clone(),
            boundary: selectors.and_then(|selectors| selectors.boundary.clone()),
            rank_correlations,
            entries,
        })
    }

    /// One line per variant, as comma-separated values. Empty where nothing is known.
    pub fn csv(&self) -> String {
        let head = ["variant", "layer", "runs", "gain", "gain_low", "gain_high", "reward_change", "contribution"];
        let names: Vec<&str> = head.into_iter().chain(MEASURES.iter().map(|(name, _)| *name)).collect();
        let mut csv = format!("{}\n", names.join(","));
        let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        for entry in &self.entries {
            let interval = entry.gain.half_width.map(|_| entry.gain.interval());
            let own = [
                entry.variant.to_string(),
                entry.layer.map_or(String::new(), |layer| layer.to_string()),
                entry.runs.len().to_string(),
                entry.gain.mean.to_string(),
                text(interval.map(|(low, _)| low)),
                text(interval.map(|(_, high)| high)),
                text(entry.reward_change.map(|change| change.mean)),
                text(entry.contribution),
            ];
            let measures = MEASURES.iter().map(|(_, of)| text(entry.measured.as_ref().and_then(of)));
            let cells: Vec<String> = own.into_iter().chain(measures).collect();
            csv += &format!("{}\n", cells.join(","));
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use bupo_core::PolicySite;

    use super::*;
    use crate::config::TrainConfig;

    fn result(seed: u64, gain: f64) -> RunResult {
        RunResult {
            seed,
            folder: "x".into(),
            before: 0.5,
            after: 0.5 + gain,
            gain,
            samples: 8,
            reward_change: Some(gain),
        }
    }

    #[test]
    fn gains_are_means_over_seeds_beside_the_share_of_the_full_gain() -> Result<(), RlError> {
        let variants = [PolicySite::Layer(2), PolicySite::Full, PolicySite::Layer(4)].map(Variant::Site);
        let plan = SweepPlan {
            settings: TrainConfig::default(),
            steps: Some(4),
            variants: variants.to_vec(),
            seeds: vec![0, 1],
        };
        let gains = [[0.02, 0.04], [0.1, 0.2], [-0.1, 0.1]];
        // The last run is not done yet.
        let finished: Vec<(SweepRun, RunResult)> = plan
            .runs()?
            .into_iter()
            .take(5)
            .map(|run| {
                let variant = variants.iter().position(|variant| *variant == run.variant).unwrap_or(0);
                let gain = gains[variant][run.seed as usize];
                (run.clone(), result(run.seed, gain))
            })
            .collect();
        let result = SweepResult::new(&plan, &finished, None)?;
        let means: Vec<f64> = result.entries.iter().map(|entry| entry.gain.mean).collect();
        assert!(
            means.iter().zip([0.03, 0.15, -0.1]).all(|(mean, expected)| (mean - expected).abs() < 1e-12),
            "{means:?}"
        );
        assert!(result.entries[0].contribution.is_some_and(|share| (share - 0.2).abs() < 1e-12));
        assert_eq!((result.entries[2].gain.half_width, result.entries[2].runs.len()), (None, 1));
        // 12.7062 * 0.0141421 / sqrt(2)
        assert!(result.entries[0].gain.half_width.is_some_and(|half| (half - 0.127_062).abs() < 1e-6));
        assert_eq!(result.steps, 4);
        let csv = result.csv();
        assert!(csv.starts_with("variant,layer,runs,gain,gain_low,") && csv.lines().count() == 4, "{csv}");
        assert!(csv.lines().all(|line| line.split(',').count() == 12), "{csv}");
        Ok(())
    }

    #[test]
    fn the_reward_change_is_of_quarters() {
        assert_eq!(reward_change(&[0.0, 1.0, 5.0, 9.0, 2.0]), Some(5.0));
        assert_eq!(reward_change(&[0.5]), Some(0.0));
        assert_eq!(reward_change(&[]), None);
        assert_eq!(reward_change(&[f64::NAN, 1.0]), None);
    }
}
