//! Avg@K, Pass@K and maj@K with their 95% confidence intervals.

use serde::{Deserialize, Serialize};

use crate::lengths::LengthQuantiles;
use crate::majority::majority;

/// The normal distribution's 97.5% quantile.
pub(crate) const Z: f64 = 1.959_963_985;

/// A model's results on a set of problems. Means have the half-width of their 95% confidence interval (normal approximation,
/// over problems).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The number of problems.
    pub problems: usize,
    /// Responses per problem, n.
    pub samples: usize,
    /// Avg@K: the mean score of all responses.
    pub avg_at_k: f64,
    /// 95% CI half-width of `avg_at_k`.
    pub avg_half_width: f64,
    /// Pass@n: the share of problems with at least one correct response.
    pub pass_at_k: f64,
    /// Pass@K for K = 1, 2, ..., n: the mean over problems of the unbiased estimate.
    pub pass_at: Vec<f64>,
    /// 95% CI half-width of each `pass_at`.
    pub pass_half_widths: Vec<f64>,
    /// maj@n: the mean over problems of the expected score of the answer that most of its responses give. `None` if
    /// no answer was extracted from any response, and in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maj_at_k: Option<f64>,
    /// 95% CI half-width of `maj_at_k`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maj_half_width: Option<f64>,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Lengths of the right responses; `None` without any, and in a mean over several benchmarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_right: Option<LengthQuantiles>,
    /// Lengths of the other responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_wrong: Option<LengthQuantiles>,
    /// Share of responses truncated at the length limit.
    pub truncated: f64,
}

/// One response in an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseOutcome {
    /// The score.
    pub score: f64,
    /// The length in tokens.
    pub tokens: usize,
    /// Whether an end-of-sequence token ended it within the length limit.
    pub finished: bool,
    /// The answer extracted from it, by which it votes.
    pub answer: Option<String>,
}

impl ResponseOutcome {
    /// Whether it counts as right: its score is above 0.5.
    pub fn is_right(&self) -> bool {
        self.score > 0.5
    }
}

impl Evaluation {
    /// Evaluates problems with the same number of responses each. A response with a score above 0.5 is correct.
    pub fn of(problems: &[Vec<ResponseOutcome>]) -> Self {
        let samples = problems.iter().map(Vec::len).min().unwrap_or(0);
        let all = || problems.iter().flatten();
        let mean = |value: fn(&ResponseOutcome) -> f64| mean_and_std(&all().map(value).collect::<Vec<_>>()).0;
        let scores: Vec<f64> = problems
            .iter()
            .map(|problem| mean_and_std(&problem.iter().map(|outcome| outcome.score).collect::<Vec<_>>()).0)
            .collect();
        let (pass_at, pass_half_widths): (Vec<f64>, Vec<f64>) = (1..=samples)
            .map(|k| {
                let chances = problems.iter().map(|problem| {
                    let right = problem.iter().filter(|outcome| outcome.is_right()).count();
                    pass_at_k(problem.len(), right, k)
                });
                mean_and_half_width(&chances.collect::<Vec<_>>())
            })
            .unzip();
        let (avg_at_k, avg_half_width) = mean_and_half_width(&scores);
        let has_answers = all().any(|outcome| outcome.answer.is_some());
        let votes = || mean_and_half_width(&problems.iter().map(|problem| majority(problem)).collect::<Vec<_>>());
        let (maj_at_k, maj_half_width) = has_answers.then(votes).unzip();
        let lengths = |right: bool| {
            LengthQuantiles::of(all().filter(|outcome| outcome.is_right() == right).map(|outcome| outcome.tokens))
        };
        Self {
            problems: problems.len(),
            samples,
            avg_at_k,
            avg_half_width,
            pass_at_k: pass_at.last().copied().unwrap_or(0.0),
            pass_at,
            pass_half_widths,
            maj_at_k,
            maj_half_width,
            response_length: mean(|outcome| outcome.tokens as f64),
            length_right: lengths(true),
            length_wrong: lengths(false),
            truncated: mean(|outcome| f64::from(u8::from(!outcome.finished))),
        }
    }
}

impl Evaluation {
    /// The unweighted mean over benchmarks; `problems` is their sum, and CI half-widths are those of a mean of independent
    /// estimates. Equal to the evaluation itself for a single benchmark.
    pub fn mean(benchmarks: &[Self]) -> Self {
        let [first, rest @ ..] = benchmarks else { return Self::of(&[]) };
        if rest.is_empty() {
            return first.clone();
        }
        let count = benchmarks.len() as f64;
        let samples = benchmarks.iter().map(|evaluation| evaluation.samples).min().unwrap_or(0);
        let mean = |value: &dyn Fn(&Self) -> f64| benchmarks.iter().map(value).sum::<f64>() / count;
        let half_width = |value: &dyn Fn(&Self) -> f64| {
            benchmarks.iter().map(|evaluation| value(evaluation).powi(2)).sum::<f64>().sqrt() / count
        };
        let votes: Option<Vec<f64>> = benchmarks.iter().map(|evaluation| evaluation.maj_at_k).collect();
        let vote_half_width = half_width(&|evaluation| evaluation.maj_half_width.unwrap_or(0.0));
        let pass_at: Vec<f64> = (0..samples).map(|k| mean(&|evaluation| evaluation.pass_at[k])).collect();
        Self {
            problems: benchmarks.iter().map(|evaluation| evaluation.problems).sum(),
            samples,
            avg_at_k: mean(&|evaluation| evaluation.avg_at_k),
            avg_half_width: half_width(&|evaluation| evaluation.avg_half_width),
            pass_at_k: pass_at.last().copied().unwrap_or(0.0),
            pass_at,
            pass_half_widths: (0..samples).map(|k| half_width(&|evaluation| evaluation.pass_half_widths[k])).collect(),
            maj_half_width: votes.is_some().then_some(vote_half_width),
            maj_at_k: votes.map(|votes| votes.iter().sum::<f64>() / count),
            response_length: mean(&|evaluation| evaluation.response_length),
            length_right: None,
            length_wrong: None,
            truncated: mean(&|evaluation| evaluation.truncated),
        }
    }
}

/// `1 - C(n - c, k) / C(n, k)`: the unbiased estimate of Pass@k from n responses of which c are correct.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    if k > n - c {
        return 1.0;
    }
    1.0 - ((n - c - k + 1)..=(n - c))
        .zip((n - k + 1)..=n)
        .map(|(top, bottom)| top as f64 / bottom as f64)
        .product::<f64>()
}

fn mean_and_half_width(values: &[f64]) -> (f64, f64) {
    let (mean, std) = mean_and_std(values);
    (mean, Z * std / (values.len().max(1) as f64).sqrt())
}

/// Mean and unbiased standard deviation; the latter is 0 for fewer than two values.
pub fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(scores: &[f64]) -> Vec<ResponseOutcome> {
        let outcome = |score: &f64| ResponseOutcome {
            score: *score,
            tokens: 3,
            finished: *score > 0.0,
            answer: Some(score.to_string()),
        };
        scores.iter().map(outcome).collect()
    }

    /// The share of the subsets of k responses with a correct one, by enumeration.
    fn counted(n: usize, c: usize, k: usize) -> f64 {
        let subsets = (0_u32..1 << n).filter(|subset| subset.count_ones() as usize == k);
        let right = subsets.clone().filter(|subset| subset & ((1 << c) - 1) != 0).count();
        right as f64 / subsets.count() as f64
    }

    #[test]
    fn pass_at_k_equals_enumeration() {
        for n in 1..=9 {
            for c in 0..=n {
                for k in 1..=n {
                    assert!((pass_at_k(n, c, k) - counted(n, c, k)).abs() < 1e-12, "{n} {c} {k}");
                }
            }
        }
        // 1 - C(127, 64) / C(128, 64) = 1 - 64 / 128: no factorial overflows.
        assert!((pass_at_k(128, 1, 64) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_evaluation_has_means_and_intervals_over_problems() {
        let evaluation = Evaluation::of(&[outcomes(&[1.0, 0.0]), outcomes(&[0.0, 0.0]), outcomes(&[1.0, 1.0])]);
        assert_eq!((evaluation.problems, evaluation.samples), (3, 2));
        assert!((evaluation.avg_at_k - 0.5).abs() < 1e-12);
        // Problem means 0.5, 0, 1: unbiased standard deviation 0.5.
        assert!((evaluation.avg_half_width - 1.959_963_985 * 0.5 / 3.0_f64.sqrt()).abs() < 1e-9);
        assert!((evaluation.pass_at[0] - 0.5).abs() < 1e-12 && (evaluation.pass_at[1] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(evaluation.pass_at_k, evaluation.pass_at[1]);
        // A tie, no right answer, and two right ones.
        assert!(evaluation.maj_at_k.is_some_and(|majority| (majority - 0.5).abs() < 1e-12));
        assert_eq!(evaluation.maj_half_width, Some(evaluation.avg_half_width));
        assert!((evaluation.truncated - 0.5).abs() < 1e-12 && evaluation.response_length == 3.0);
    }

    #[test]
    fn the_mean_over_benchmarks_is_not_weighted_by_problems() {
        let large = Evaluation::of(&[outcomes(&[1.0, 0.0]), outcomes(&[0.0, 0.0]), outcomes(&[1.0, 1.0])]);
        let small = Evaluation::of(&[outcomes(&[1.0, 1.0])]);
        let mean = Evaluation::mean(&[large.clone(), small.clone()]);
        assert_eq!((mean.problems, mean.samples), (4, 2));
        assert!((mean.avg_at_k - (0.5 + 1.0) / 2.0).abs() < 1e-12);
        assert!((mean.pass_at_k - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
        assert!((mean.avg_half_width - large.avg_half_width / 2.0).abs() < 1e-12);
        assert_eq!(mean.maj_at_k, Some((0.5 + 1.0) / 2.0));
        assert_eq!((mean.length_right, mean.length_wrong), (None, None));
        let unvoted = Evaluation { maj_at_k: None, maj_half_width: None, ..small };
        assert_eq!(Evaluation::mean(&[large.clone(), unvoted]).maj_at_k, None);
        assert_eq!(Evaluation::mean(std::slice::from_ref(&large)), large);
        assert_eq!(Evaluation::mean(&[]), Evaluation::of(&[]));
    }

    /// Answer, score and tokens.
    type Response = (Option<String>, f64, usize);

    #[test]
    fn votes_and_lengths_are_those_of_the_reference() -> Result<(), serde_json::Error> {
        let cases: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/evaluation.json"))?;
        for case in cases.as_array().into_iter().flatten() {
            let problems: Vec<Vec<Response>> = serde_json::from_value(case["problems"].clone())?;
            let outcome = |(answer, score, tokens): &Response| ResponseOutcome {
                score: *score,
                tokens: *tokens,
                finished: true,
                answer: answer.clone(),
            };
            let outcomes: Vec<Vec<ResponseOutcome>> =
                problems.iter().map(|problem| problem.iter().map(outcome).collect()).collect();
            let found = serde_json::to_value(Evaluation::of(&outcomes))?;
            for (key, expected) in case["expected"].as_object().into_iter().flatten() {
                let numbers = |value: &serde_json::Value| -> Vec<f64> {
                    let of_object = value.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_f64());
                    value.as_f64().into_iter().chain(of_object).collect()
                };
                let (found, expected) = (numbers(&found[key]), numbers(expected));
                let close = found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-9);
                assert!(close && found.len() == expected.len(), "{key}: {found:?} for {expected:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_evaluation_of_an_earlier_version_is_read() -> Result<(), serde_json::Error> {
        let mut written = serde_json::to_value(Evaluation::of(&[outcomes(&[1.0, 0.0])]))?;
        for key in ["maj_at_k", "maj_half_width", "length_right", "length_wrong"] {
            assert!(written.as_object_mut().is_some_and(|written| written.remove(key).is_some()), "{key}");
        }
        let read: Evaluation = serde_json::from_value(written.clone())?;
        assert_eq!((read.avg_at_k, read.maj_at_k, read.length_right), (0.5, None, None));
        assert_eq!(serde_json::to_value(read)?, written);
        Ok(())
    }

    #[test]
    fn an_evaluation_without_problems_is_zero() {
        let evaluation = Evaluation::of(&[]);
        assert_eq!((evaluation.problems, evaluation.avg_at_k, evaluation.pass_at_k), (0, 0.0, 0.0));
    }
}
