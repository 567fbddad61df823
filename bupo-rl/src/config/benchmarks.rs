//! `[[evaluation.benchmarks]]`: what a run is evaluated on, each with its own way of sampling.

use std::path::PathBuf;

use bupo_core::SamplingParams;
use serde::{Deserialize, Serialize};

use super::sections::EvaluationConfig;
use super::train_config::TrainConfig;
use crate::RlError;

/// A benchmark of a run's evaluations. What it does not set is as without benchmarks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkConfig {
    /// Its name in metrics; `None` for the file's stem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A Parquet or JSON-lines file with the columns of `[data]`.
    pub file: PathBuf,
    /// The number of problems, rows at even distances; `None` for all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems: Option<usize>,
    /// Responses per problem, K; `None` for `evaluation.samples`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// The longest response in tokens; `None` for `rollout.max_new_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// Sampling temperature, 0 for greedy decoding; `None` for `evaluation.temperature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Tokens are sampled from the smallest set with at least this probability; `None` for 1, all tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
}

/// How a benchmark is sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BenchmarkSampling {
    pub(crate) samples: usize,
    pub(crate) max_new_tokens: usize,
    pub(crate) temperature: f64,
    pub(crate) params: SamplingParams,
}

impl BenchmarkConfig {
    /// Its name in metrics.
    pub fn name(&self) -> String {
        let stem = || self.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        self.name.clone().or_else(stem).unwrap_or_default()
    }
}

impl EvaluationConfig {
    /// How each benchmark is sampled; without `benchmarks` the one way of all.
    pub(crate) fn samplings(&self, max_new_tokens: usize) -> Vec<BenchmarkSampling> {
        let shared = BenchmarkSampling {
            samples: self.samples,
            max_new_tokens,
            temperature: self.temperature,
            params: SamplingParams::default(),
        };
        if self.benchmarks.is_empty() {
            return vec![shared];
        }
        let own = |benchmark: &BenchmarkConfig| BenchmarkSampling {
            samples: benchmark.samples.unwrap_or(shared.samples),
            max_new_tokens: benchmark.max_new_tokens.unwrap_or(shared.max_new_tokens),
            temperature: benchmark.temperature.unwrap_or(shared.temperature),
            params: SamplingParams { top_p: benchmark.top_p.unwrap_or(shared.params.top_p), ..shared.params },
        };
        self.benchmarks.iter().map(own).collect()
    }
}

impl TrainConfig {
    /// The longest response that is sampled, in steps and evaluations, in tokens.
    pub fn longest_response(&self) -> usize {
        let evaluated = self.evaluation.benchmarks.iter().filter_map(|benchmark| benchmark.max_new_tokens).max();
        self.rollout.max_new_tokens.max(evaluated.unwrap_or(0))
    }

    /// Checks the benchmarks.
    pub(super) fn check_benchmarks(&self) -> Result<(), RlError> {
        let error = |text: String| Err(RlError::Config(text));
        let benchmarks = &self.evaluation.benchmarks;
        if benchmarks.is_empty() {
            return Ok(());
        }
        if self.data.train.is_empty() {
            return error(
                "evaluation.benchmarks names files but data.train does not; the embedded task evaluates its own \
                 problems: name both"
                    .into(),
            );
        }
        if !self.data.validation.is_empty() {
            return error(
                "data.validation and evaluation.benchmarks both name what is evaluated; remove one of them".into(),
            );
        }
        for (index, benchmark) in benchmarks.iter().enumerate() {
            let counts = [
                ("problems", benchmark.problems),
                ("samples", benchmark.samples),
                ("max_new_tokens", benchmark.max_new_tokens),
            ];
            if let Some((name, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
                return error(format!("evaluation.benchmarks.{index}.{name} is 0; it must be at least 1"));
            }
            if let Some(temperature) = benchmark.temperature.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                return error(format!(
                    "evaluation.benchmarks.{index}.temperature is {temperature}; it must be 0 or more"
                ));
            }
            if let Some(top_p) = benchmark.top_p.filter(|value| !(*value > 0.0 && *value <= 1.0)) {
                return error(format!(
                    "evaluation.benchmarks.{index}.top_p is {top_p}; it must be above 0 and at most 1"
                ));
            }
            let name = benchmark.name();
            if name.trim().is_empty() || benchmarks[..index].iter().any(|other| other.name() == name) {
                return error(format!(
                    "evaluation.benchmarks.{index} has the name \"{name}\", which is empty or another benchmark's; give \
                     it a name of its own"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn load(benchmarks: &str, more: &str) -> Result<TrainConfig, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("config.toml");
        let text = format!("[data]\ntrain = [\"a.jsonl\"]\n{more}\n{benchmarks}\n");
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        TrainConfig::load(Some(Path::new(&path)), &["evaluation.samples=4".into()]).map_err(|error| error.to_string())
    }

    const TWO: &str = "[[evaluation.benchmarks]]\nfile = \"x/aime.parquet\"\nsamples = 16\nmax_new_tokens = 64\ntemperature = 0.6\n\
                       top_p = 0.95\n[[evaluation.benchmarks]]\nname = \"math\"\nfile = \"math500.jsonl\"\nproblems = 50\n";

    #[test]
    fn a_benchmark_has_its_own_sampling_over_the_shared_one() -> Result<(), Box<dyn std::error::Error>> {
        let config = load(TWO, "")?;
        let names: Vec<String> = config.evaluation.benchmarks.iter().map(BenchmarkConfig::name).collect();
        assert_eq!((names, config.longest_response()), (vec!["aime".into(), "math".into()], 64));
        let samplings = config.evaluation.samplings(32);
        assert_eq!((samplings[0].samples, samplings[0].max_new_tokens), (16, 64));
        assert_eq!((samplings[0].temperature, samplings[0].params.top_p), (0.6, 0.95));
        let shared = TrainConfig {
            evaluation: EvaluationConfig { benchmarks: Vec::new(), ..config.evaluation.clone() },
            ..config.clone()
        };
        assert_eq!(samplings[1..], shared.evaluation.samplings(32));
        assert_eq!((samplings[1].samples, samplings[1].params), (4, SamplingParams::default()));
        // Written settings read as the same ones, and those without benchmarks do not name them.
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml()?)?;
        assert_eq!(TrainConfig::load(Some(&path), &[])?, config);
        assert!(!TrainConfig::default().to_toml()?.contains("benchmarks"));
        Ok(())
    }

    #[test]
    fn benchmarks_that_cannot_be_are_refused_by_name() {
        for (benchmarks, more, expected) in [
            ("file = \"a\"\nsamples = 0", "", "evaluation.benchmarks.0.samples is 0"),
            ("file = \"a\"\ntemperature = -1.0", "", "temperature is -1"),
            ("file = \"a\"\ntop_p = 1.5", "", "top_p is 1.5"),
            ("file = \"a\"\nsample = 1", "", "did you mean samples?"),
            ("name = \"a\"", "", "missing field `file`"),
            (
                "file = \"x/a.jsonl\"\n[[evaluation.benchmarks]]\nfile = \"y/a.parquet\"",
                "",
                "give it a name of its own",
            ),
            ("file = \"a\"", "validation = [\"b.jsonl\"]", "remove one of them"),
        ] {
            let error = load(&format!("[[evaluation.benchmarks]]\n{benchmarks}"), more).err().unwrap_or_default();
            assert!(error.contains(expected), "{benchmarks}: {error}");
        }
        let pairs = ["data.train=[]".to_string()];
        let folder = tempfile::tempdir().map(|folder| (folder.path().join("config.toml"), folder));
        if let Ok((path, _folder)) = folder {
            assert!(std::fs::write(&path, TWO).is_ok());
            let error = TrainConfig::load(Some(&path), &pairs).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("name both"), "{error}");
        }
    }
}
