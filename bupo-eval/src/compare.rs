//! Two evaluations of the same problems, compared problem by problem.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::EvalError;
use crate::benchmark::{BenchmarkCompletion, COMPLETIONS, SETTINGS, read_lines};
use crate::metrics::{Z, mean_and_std};

/// Settings that make the prompts of a problem: evaluations that share them have the same prompts if they have the same problems.
const PROMPT_SETTINGS: [&str; 7] =
    ["model", "chat_template", "thinking", "template_date", "prompt_column", "max_prompt_tokens", "overlong"];

/// The evaluations of two folders, A and B, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// By benchmark, in the order of A.
    pub benchmarks: Vec<PairedDifference>,
    /// The unweighted mean over benchmarks.
    pub overall: PairedDifference,
    /// The grading rules of A and B, if they differ.
    pub other_rules: Option<(String, String)>,
}

/// The difference of the scores of B and A on the same problems.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedDifference {
    /// The benchmark's name; empty for the mean over benchmarks.
    pub benchmark: String,
    /// The number of problems.
    pub problems: usize,
    /// The mean score of A.
    pub a: f64,
    /// The mean score of B.
    pub b: f64,
    /// Problems on which B has a higher mean score than A.
    pub better: usize,
    /// Problems on which B has a lower mean score than A.
    pub worse: usize,
    /// 95% CI half-width of `b - a` (normal approximation over the differences of the problems); nothing for fewer than two
    /// problems.
    pub half_width: Option<f64>,
}

/// A problem's scores and what identifies it.
#[derive(Debug, Default)]
struct Answered {
    scores: Vec<f64>,
    answer: String,
    prompt: String,
}

/// An evaluation's folder, read.
struct Evaluated {
    benchmarks: Vec<(String, BTreeMap<usize, Answered>)>,
    settings: Value,
}

/// Compares the evaluations of two folders. Problems are matched by benchmark and number.
///
/// # Errors
/// If a folder has no completions, or the folders have other problems: other benchmarks, numbers, reference answers, or, if
/// prompts were rendered alike, other prompts. The message names the first difference.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, EvalError> {
    let (of_a, of_b) = (Evaluated::read(a)?, Evaluated::read(b)?);
    check_same_problems((a, &of_a), (b, &of_b))?;
    let mut benchmarks = Vec::new();
    for (name, problems) in &of_a.benchmarks {
        let Some(others) = of_b.problems(name) else { continue };
        let mean = |problem: &Answered| mean_and_std(&problem.scores).0;
        let pairs: Vec<(f64, f64)> = problems.values().zip(others.values()).map(|(a, b)| (mean(a), mean(b))).collect();
        benchmarks.push(PairedDifference::of(name, &pairs));
    }
    let rule = |evaluated: &Evaluated| evaluated.settings["rule"].as_str().map(String::from);
    let other_rules = rule(&of_a).zip(rule(&of_b)).filter(|(a, b)| a != b);
    Ok(Comparison { overall: PairedDifference::mean(&benchmarks), benchmarks, other_rules })
}

impl PairedDifference {
    /// The difference from the mean scores of A and B on each problem.
    pub fn of(benchmark: &str, pairs: &[(f64, f64)]) -> Self {
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
        let mean = |side: fn(&(f64, f64)) -> f64| mean_and_std(&pairs.iter().map(side).collect::<Vec<_>>()).0;
        let std = mean_and_std(&differences).1;
        Self {
            benchmark: benchmark.to_string(),
            problems: pairs.len(),
            a: mean(|pair| pair.0),
            b: mean(|pair| pair.1),
            better: differences.iter().filter(|difference| **difference > 0.0).count(),
            worse: differences.iter().filter(|difference| **difference < 0.0).count(),
            half_width: (pairs.len() > 1).then(|| Z * std / (pairs.len() as f64).sqrt()),
        }
    }

    /// The mean score of B minus that of A.
    pub fn difference(&self) -> f64 {
        self.b - self.a
    }

    /// The unweighted mean over benchmarks, whose half-width is that of a mean of independent estimates.
    fn mean(benchmarks: &[Self]) -> Self {
        let count = benchmarks.len().max(1) as f64;
        let sum = |value: fn(&Self) -> f64| benchmarks.iter().map(value).sum::<f64>();
        let total = |value: fn(&Self) -> usize| benchmarks.iter().map(value).sum();
        let squares: Option<f64> = benchmarks.iter().map(|one| one.half_width.map(|width| width.powi(2))).sum();
        Self {
            benchmark: String::new(),
            problems: total(|one| one.problems),
            a: sum(|one| one.a) / count,
            b: sum(|one| one.b) / count,
            better: total(|one| one.better),
            worse: total(|one| one.worse),
            half_width: squares.map(|squares| squares.sqrt() / count),
        }
    }
}

impl Evaluated {
    fn read(folder: &Path) -> Result<Self, EvalError> {
        let (path, settings) = (folder.join(COMPLETIONS), folder.join(SETTINGS));
        let no_data = |reason: &str| EvalError::NoData { path: folder.to_path_buf(), reason: reason.into() };
        // A training run has completions too, of another kind.
        for (file, name) in [(&path, COMPLETIONS), (&settings, SETTINGS)] {
            if !file.is_file() {
                return Err(no_data(&format!("it has no {name}; give the folder of an evaluation by bupo eval")));
            }
        }
        let mut benchmarks: Vec<(String, BTreeMap<usize, Answered>)> = Vec::new();
        for BenchmarkCompletion { benchmark, problem, completion, .. } in read_lines(&path)? {
            let index = benchmarks.iter().position(|(name, _)| *name == benchmark).unwrap_or_else(|| {
                benchmarks.push((benchmark, BTreeMap::new()));
                benchmarks.len() - 1
            });
            let answered = benchmarks[index].1.entry(problem).or_default();
            answered.scores.push(completion.score);
            (answered.answer, answered.prompt) = (completion.answer, completion.prompt);
        }
        if benchmarks.is_empty() {
            return Err(no_data("its completions.jsonl has no completions; finish the evaluation first"));
        }
        let settings = fs::read_to_string(settings).ok().and_then(|text| serde_json::from_str(&text).ok());
        Ok(Self { benchmarks, settings: settings.unwrap_or_default() })
    }

    fn problems(&self, benchmark: &str) -> Option<&BTreeMap<usize, Answered>> {
        self.benchmarks.iter().find(|(name, _)| name == benchmark).map(|(_, problems)| problems)
    }
}

fn check_same_problems(a: (&Path, &Evaluated), b: (&Path, &Evaluated)) -> Result<(), EvalError> {
    let refuse = |reason: String| Err(EvalError::OtherProblems(reason));
    for ((here, of_here), (there, of_there)) in [(a, b), (b, a)] {
        let (here, there) = (here.display(), there.display());
        for (name, problems) in &of_here.benchmarks {
            let Some(others) = of_there.problems(name) else {
                return refuse(format!("{there} has no benchmark {name}, which {here} has"));
            };
            if let Some(number) = problems.keys().find(|number| !others.contains_key(number)) {
                return refuse(format!("{there} has no problem {number} of {name}, which {here} has"));
            }
        }
    }
    let ((of_a, evaluated_a), (of_b, evaluated_b)) = (a, b);
    let same_prompts = !evaluated_a.settings.is_null()
        && PROMPT_SETTINGS.iter().all(|name| evaluated_a.settings[name] == evaluated_b.settings[name]);
    for (name, problems) in &evaluated_a.benchmarks {
        let Some(others) = evaluated_b.problems(name) else { continue };
        for ((number, one), other) in problems.iter().zip(others.values()) {
            let pairs = [
                ("reference answer", &one.answer, &other.answer, true),
                ("prompt", &one.prompt, &other.prompt, same_prompts),
            ];
            for (what, in_a, in_b, compared) in pairs {
                if compared && in_a != in_b {
                    let (of_a, of_b) = (of_a.display(), of_b.display());
                    let (in_a, in_b) = (shortened(in_a), shortened(in_b));
                    return refuse(format!(
                        "problem {number} of {name} has the {what} {in_a:?} in {of_a} and {in_b:?} in {of_b}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The beginning of a text.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paired_difference_agrees_with_one_computed_by_hand() {
        // Differences 0.5, 0, 1, -0.5: mean 0.25; squares of their distances 0.0625, 0.0625, 0.5625, 0.5625 sum to 1.25;
        // variance 1.25 / 3, standard error sqrt(1.25 / 3 / 4) = 0.322749, half-width 1.959964 times it.
        let paired = PairedDifference::of("sums", &[(0.0, 0.5), (1.0, 1.0), (0.0, 1.0), (0.5, 0.0)]);
        assert_eq!((paired.problems, paired.better, paired.worse), (4, 2, 1));
        assert_eq!((paired.a, paired.b, paired.difference()), (0.375, 0.625, 0.25));
        assert!((paired.half_width.unwrap_or(f64::NAN) - 0.632_576_5).abs() < 1e-6, "{paired:?}");
        assert_eq!(PairedDifference::of("one", &[(0.0, 1.0)]).half_width, None, "one problem has no interval");
        // The mean of two benchmarks: sqrt(0.632577^2 + 0) / 2.
        let other = PairedDifference::of("same", &[(1.0, 1.0), (0.0, 0.0)]);
        let overall = PairedDifference::mean(&[paired, other]);
        assert_eq!((overall.problems, overall.difference()), (6, 0.125));
        assert!((overall.half_width.unwrap_or(f64::NAN) - 0.316_288_2).abs() < 1e-6, "{overall:?}");
    }

    fn folder(lines: &[(&str, usize, usize, &str, f64)]) -> std::io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        let line = |(benchmark, problem, sample, answer, score): &(&str, usize, usize, &str, f64)| {
            let line = serde_json::json!({
                "benchmark": benchmark, "problem": problem, "sample": sample, "prompt": format!("{answer}=?"),
                "response": "", "answer": answer, "data_source": "", "score": score, "extracted": null, "tokens": 1,
                "finished": true,
            });
            format!("{line}\n")
        };
        fs::write(folder.path().join(COMPLETIONS), lines.iter().map(line).collect::<String>())?;
        fs::write(folder.path().join(SETTINGS), "null")?;
        Ok(folder)
    }

    #[test]
    fn problems_are_matched_by_benchmark_and_number() -> Result<(), Box<dyn std::error::Error>> {
        let a = folder(&[("x", 1, 1, "2", 0.0), ("x", 1, 2, "2", 1.0), ("x", 2, 1, "3", 0.0), ("x", 2, 2, "3", 0.0)])?;
        // Another order and another number of samples.
        let b = folder(&[("x", 2, 1, "3", 1.0), ("x", 1, 1, "2", 1.0)])?;
        let compared = compare(a.path(), b.path())?;
        assert_eq!(compared.benchmarks, [PairedDifference::of("x", &[(0.5, 1.0), (0.0, 1.0)])]);
        assert_eq!(compared.overall.difference(), 0.75);
        for (other, wanted) in [
            (&[("y", 1, 1, "2", 0.0)][..], "has no benchmark x"),
            (&[("x", 1, 1, "2", 0.0)], "has no problem 2 of x"),
            (&[("x", 1, 1, "2", 0.0), ("x", 2, 1, "4", 0.0)], "problem 2 of x has the reference answer \"3\""),
            (&[("x", 1, 1, "2", 0.0), ("x", 2, 1, "3", 0.0), ("x", 3, 1, "3", 0.0)], "has no problem 3 of x"),
        ] {
            let message = compare(a.path(), folder(other)?.path()).err().map(|error| error.to_string());
            assert!(message.as_ref().is_some_and(|message| message.contains(wanted)), "{message:?}");
        }
        Ok(())
    }

    #[test]
    fn prompts_are_compared_if_they_were_rendered_alike() -> Result<(), Box<dyn std::error::Error>> {
        let (a, b) = (folder(&[("x", 1, 1, "2", 0.0)])?, folder(&[("x", 1, 1, "2", 0.0)])?);
        let lines = fs::read_to_string(b.path().join(COMPLETIONS))?.replace("2=?", "1+1=?");
        fs::write(b.path().join(COMPLETIONS), lines)?;
        let settings = |model: &str| format!("{{\"model\": \"{model}\", \"rule\": \"{model}\"}}");
        fs::write(a.path().join(SETTINGS), settings("one"))?;
        fs::write(b.path().join(SETTINGS), settings("two"))?;
        assert_eq!(compare(a.path(), b.path())?.other_rules, Some(("one".into(), "two".into())));
        fs::write(b.path().join(SETTINGS), settings("one"))?;
        let message = compare(a.path(), b.path()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("problem 1 of x has the prompt \"2=?\""), "{message}");
        Ok(())
    }
}
