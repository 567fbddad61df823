//! Benchmarks, sampled, graded and saved problem by problem, so that a stopped evaluation can resume.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bupo_data::chat::TemplateDate;
use bupo_grade::{Grader, Item};
use bupo_runs::{JsonLinesOptions, JsonLinesWriter, read_json_lines, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::EvalError;
use crate::metrics::{Evaluation, ResponseOutcome};
use crate::question::{Question, grade_all};
use crate::sampler::{Completion, Sampler, Sampling};

/// The file of completions within an evaluation's folder.
pub const COMPLETIONS: &str = "completions.jsonl";
/// The setting of an evaluation's folder that holds the date in its prompts, if the chat template writes one.
pub const TEMPLATE_DATE: &str = "template_date";
pub(crate) const SETTINGS: &str = "settings.json";
const RESULTS: &str = "results.json";

/// A named list of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Benchmark {
    /// The name in tables and completions.
    pub name: String,
    /// Its questions, in order.
    pub questions: Vec<Question>,
}

/// A line of `completions.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkCompletion {
    /// The benchmark's name.
    pub benchmark: String,
    /// The problem's number in it, from 1.
    pub problem: usize,
    /// The response's number among the problem's, from 1.
    pub sample: usize,
    /// Prompt, response and score.
    #[serde(flatten)]
    pub completion: Completion,
}

/// The result of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkResult {
    /// The benchmark's name.
    pub benchmark: String,
    /// Avg@K, Pass@K and maj@K.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// The folder of an evaluation: its settings, the completions so far, the results.
#[derive(Debug)]
pub struct EvaluationFolder {
    path: PathBuf,
    lines: JsonLinesWriter,
    done: Vec<BenchmarkCompletion>,
}

impl EvaluationFolder {
    /// Creates the folder, or opens that of an evaluation with the same settings to resume it. A problem whose responses were
    /// not all written is done again.
    ///
    /// # Errors
    /// If the folder has other contents or another evaluation's settings, or cannot be written.
    pub fn open(path: &Path, settings: &Value, samples: usize) -> Result<Self, EvalError> {
        fs::create_dir_all(path).map_err(EvalError::io("create", path))?;
        let (settings_path, lines_path) = (path.join(SETTINGS), path.join(COMPLETIONS));
        let empty = fs::read_dir(path).map_err(EvalError::io("read", path))?.next().is_none();
        if empty {
            write_atomically(&settings_path, format!("{settings:#}\n").as_bytes())?;
            return Ok(Self {
                path: path.to_path_buf(),
                lines: JsonLinesWriter::create(&lines_path)?,
                done: Vec::new(),
            });
        }
        if !settings_path.is_file() {
            return Err(EvalError::FolderExists(path.to_path_buf()));
        }
        let text = fs::read_to_string(&settings_path).map_err(EvalError::io("read", &settings_path))?;
        let earlier: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(name) = difference(&earlier, settings) {
            return Err(EvalError::Config(format!(
                "{} holds an evaluation with another {name}; choose another --out, or remove it",
                path.display()
            )));
        }
        // An evaluation that was stopped at its start may have no completions yet.
        let lines = if lines_path.exists() { read_lines(&lines_path)? } else { Vec::new() };
        let done = complete_problems(lines, samples);
        let kept: String =
            done.iter().map(line).collect::<Result<_, _>>().map_err(EvalError::io("read", &lines_path))?;
        write_atomically(&lines_path, kept.as_bytes())?;
        Ok(Self { path: path.to_path_buf(), lines: JsonLinesWriter::open(&lines_path)?, done })
    }

    /// The number of problems that are done.
    pub fn problems_done(&self, samples: usize) -> usize {
        self.done.len() / samples.max(1)
    }

    /// Writes the results.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_results(&self, results: &[BenchmarkResult]) -> Result<PathBuf, EvalError> {
        let path = self.path.join(RESULTS);
        let text =
            serde_json::to_string_pretty(results).map_err(|error| EvalError::io("write", &path)(error.into()))?;
        write_atomically(&path, format!("{text}\n").as_bytes())?;
        Ok(path)
    }
}

/// The date in the prompts of an evaluation to resume; `None` if there is no such folder, or its prompts have no date.
pub fn recorded_template_date(folder: &Path) -> Option<TemplateDate> {
    let text = fs::read_to_string(folder.join(SETTINGS)).ok()?;
    let settings: Value = serde_json::from_str(&text).ok()?;
    settings[TEMPLATE_DATE].as_str()?.parse().ok()
}

/// Samples and grades the problems that an evaluation's folder does not have yet, about `sampling.batch` responses at a time, and
/// returns the result of each benchmark. `stops` is asked whether to end the evaluation after each batch: then there are no
/// results yet, and the folder has the problems that are done.
///
/// # Errors
/// If the policy's logits are not finite, servers fail, or a file cannot be written.
pub fn run_benchmarks(
    sampler: &Sampler<'_>,
    benchmarks: &[Benchmark],
    sampling: &Sampling,
    grader: &Grader,
    folder: &mut EvaluationFolder,
    stops: impl Fn() -> bool,
) -> Result<Option<Vec<BenchmarkResult>>, EvalError> {
    let at_once = (sampling.batch / sampling.samples.max(1)).max(1);
    let mut first = 0;
    for benchmark in benchmarks {
        let done = folder.done.iter().filter(|line| line.benchmark == benchmark.name).count() / sampling.samples;
        for (index, questions) in benchmark.questions[done..].chunks(at_once).enumerate() {
            let start = done + index * at_once;
            let groups = sampler.sample(questions, first + start, sampling, |answered| grade_all(grader, answered))?;
            for (problem, group) in groups.iter().enumerate() {
                for (sample, completion) in (0..sampling.samples).filter_map(|i| Some((i, group.completion(i)?))) {
                    let line = BenchmarkCompletion {
                        benchmark: benchmark.name.clone(),
                        problem: start + problem + 1,
                        sample: sample + 1,
                        completion,
                    };
                    folder.lines.append(&line)?;
                    folder.done.push(line);
                }
            }
            if stops() {
                return Ok(None);
            }
        }
        first += benchmark.questions.len();
    }
    Ok(Some(results(&folder.done)))
}

/// Grades the completions of a file again and returns the result of each benchmark.
///
/// # Errors
/// If the file cannot be read or a line is not a completion.
pub fn grade_again(path: &Path, grader: &Grader) -> Result<Vec<BenchmarkResult>, EvalError> {
    let mut lines = read_lines(path)?;
    if lines.is_empty() {
        return Err(EvalError::NoData {
            path: path.to_path_buf(),
            reason: "the file has no completions; give the completions.jsonl of an evaluation".into(),
        });
    }
    let items: Vec<Item<'_>> = lines
        .iter()
        .map(|line| Item {
            response: &line.completion.response,
            answer: &line.completion.answer,
            data_source: &line.completion.data_source,
            prompt: Some(&line.completion.prompt),
        })
        .collect();
    let grades = grader.grade(&items);
    for (line, item) in lines.iter_mut().zip(grades) {
        line.completion.score = item.graded.score;
        line.completion.extracted = item.graded.extracted;
    }
    Ok(results(&lines))
}

/// One result per benchmark, in the order in which benchmarks first occur. The order of a benchmark's lines does not matter.
fn results(lines: &[BenchmarkCompletion]) -> Vec<BenchmarkResult> {
    /// Outcomes with their sample numbers, by problem number.
    type Problems = BTreeMap<usize, Vec<(usize, ResponseOutcome)>>;
    let mut benchmarks: Vec<(&str, Problems)> = Vec::new();
    for line in lines {
        let outcome = ResponseOutcome {
            score: line.completion.score,
            tokens: line.completion.tokens,
            finished: line.completion.finished,
            answer: line.completion.extracted.clone(),
        };
        let index = benchmarks.iter().position(|(name, _)| *name == line.benchmark).unwrap_or_else(|| {
            benchmarks.push((&line.benchmark, Problems::new()));
            benchmarks.len() - 1
        });
        benchmarks[index].1.entry(line.problem).or_default().push((line.sample, outcome));
    }
    benchmarks
        .into_iter()
        .map(|(name, problems)| {
            let outcomes: Vec<Vec<ResponseOutcome>> = problems
                .into_values()
                .map(|mut outcomes| {
                    // Sums in one order, so that rounding does not depend on the order of lines.
                    outcomes.sort_by_key(|(sample, _)| *sample);
                    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
                })
                .collect();
            BenchmarkResult { benchmark: name.to_string(), evaluation: Evaluation::of(&outcomes) }
        })
        .collect()
}

/// The lines at the file's beginning that form complete problems.
fn complete_problems(mut lines: Vec<BenchmarkCompletion>, samples: usize) -> Vec<BenchmarkCompletion> {
    let complete = lines.chunks(samples.max(1)).take_while(|responses| {
        responses.len() == samples
            && responses.iter().enumerate().all(|(index, line)| {
                line.sample == index + 1
                    && line.problem == responses[0].problem
                    && line.benchmark == responses[0].benchmark
            })
    });
    let kept = complete.count() * samples;
    lines.truncate(kept);
    lines
}

/// Reads completions; an unfinished last line is skipped.
pub(crate) fn read_lines(path: &Path) -> Result<Vec<BenchmarkCompletion>, EvalError> {
    let options = JsonLinesOptions { skip_unfinished_line: true, ..JsonLinesOptions::default() };
    Ok(read_json_lines(path, options)?.into_iter().map(|line| line.value).collect())
}

fn line(line: &BenchmarkCompletion) -> std::io::Result<String> {
    Ok(format!("{}\n", serde_json::to_string(line)?))
}

/// The name of the first setting that differs.
fn difference(earlier: &Value, now: &Value) -> Option<String> {
    let (Some(earlier), Some(now)) = (earlier.as_object(), now.as_object()) else { return Some("kind".into()) };
    let names = earlier.keys().chain(now.keys());
    names.into_iter().find(|name| earlier.get(*name) != now.get(*name)).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completion(benchmark: &str, problem: usize, sample: usize, score: f64) -> BenchmarkCompletion {
        let completion = Completion {
            prompt: "1+1=".into(),
            response: format!("\\boxed{{{problem}}}"),
            answer: "2".into(),
            data_source: String::new(),
            score,
            extracted: None,
            tokens: 3,
            finished: true,
        };
        BenchmarkCompletion { benchmark: benchmark.into(), problem, sample, completion }
    }

    #[test]
    fn an_evaluation_resumes_after_the_last_complete_problem() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("eval");
        let settings = json!({"samples": 2, "seed": 0});
        let mut opened = EvaluationFolder::open(&path, &settings, 2)?;
        for (problem, sample) in [(1, 1), (1, 2), (2, 1)] {
            opened.lines.append(&completion("a", problem, sample, 0.0))?;
        }
        let text = fs::read_to_string(path.join(COMPLETIONS))?;
        fs::write(path.join(COMPLETIONS), format!("{text}{{\"benchm"))?;
        let mut again = EvaluationFolder::open(&path, &settings, 2)?;
        assert_eq!((again.problems_done(2), again.done.len()), (1, 2));
        again.lines.append(&completion("a", 2, 1, 1.0))?;
        again.lines.append(&completion("a", 2, 2, 1.0))?;
        let last = EvaluationFolder::open(&path, &settings, 2)?;
        assert_eq!(last.problems_done(2), 2);
        assert_eq!(results(&last.done)[0].evaluation.avg_at_k, 0.5);
        assert_eq!(recorded_template_date(&path), None);
        let other = EvaluationFolder::open(&path, &json!({"samples": 2, "seed": 1}), 2).err();
        assert!(other.is_some_and(|error| error.to_string().contains("another seed")));
        Ok(())
    }

    #[test]
    fn an_evaluation_stopped_at_its_start_resumes() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("eval");
        let settings = json!({"samples": 2, "seed": 0});
        EvaluationFolder::open(&path, &settings, 2)?;
        fs::remove_file(path.join(COMPLETIONS))?;
        let mut again = EvaluationFolder::open(&path, &settings, 2)?;
        assert_eq!(again.problems_done(2), 0);
        again.lines.append(&completion("a", 1, 1, 1.0))?;
        assert_eq!(fs::read_dir(&path)?.count(), 2);
        Ok(())
    }

    #[test]
    fn the_date_of_prompts_is_recorded() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("eval");
        EvaluationFolder::open(&path, &json!({"samples": 2, (TEMPLATE_DATE): "2024-02-29T00:00:00"}), 2)?;
        assert_eq!(recorded_template_date(&path), Some("2024-02-29".parse()?));
        assert_eq!(recorded_template_date(folder.path()), None);
        Ok(())
    }

    #[test]
    fn a_folder_with_other_contents_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("thesis.tex"), "all of it")?;
        assert!(matches!(EvaluationFolder::open(folder.path(), &json!({}), 1), Err(EvalError::FolderExists(_))));
        Ok(())
    }

    #[test]
    fn results_are_by_benchmark_and_problem() {
        let scores = [("a", 1, 1.0), ("a", 1, 0.0), ("a", 2, 0.0), ("a", 2, 0.0), ("b", 1, 1.0), ("b", 1, 1.0)];
        let lines: Vec<_> = scores.map(|(name, problem, score)| completion(name, problem, 1, score)).into();
        let results = results(&lines);
        let shown: Vec<_> = results
            .iter()
            .map(|result| (result.benchmark.as_str(), result.evaluation.problems, result.evaluation.avg_at_k))
            .collect();
        assert_eq!(shown, [("a", 2, 0.25), ("b", 1, 1.0)]);
    }

    #[test]
    fn results_do_not_depend_on_the_order_of_lines() {
        let mut lines: Vec<_> = (0..12)
            .map(|i| completion(["a", "b"][i % 2], i / 2 % 3 + 1, i / 6 + 1, [0.1, 0.2, 0.7, 1.0, 0.0][i % 5]))
            .collect();
        let in_order = results(&lines);
        assert_eq!(in_order.iter().map(|result| result.evaluation.problems).collect::<Vec<_>>(), [3, 3]);
        assert!(in_order.iter().all(|result| result.evaluation.samples == 2));
        // Sample by sample in place of problem by problem, and reversed within each benchmark.
        for reorder in [
            |line: &BenchmarkCompletion| (line.sample, 0),
            |line: &BenchmarkCompletion| (0, 99 - 10 * line.problem - line.sample),
        ] {
            lines.sort_by_key(|line| (line.benchmark.clone(), reorder(line)));
            assert_eq!(results(&lines), in_order);
        }
    }
}
