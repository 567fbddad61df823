//! Questions from Parquet and JSON-lines files, and those generated like them.

use std::path::Path;

use bupo_data::{Epochs, split_validation};
use bupo_eval::{AnswerCounts, Benchmark, GradingInput, PromptRenderer, Question, grade_all, read_questions};
use bupo_grade::{Failures, Graded, GradedItem, Grader, Reward, Rule};
use bupo_models::ModelFiles;

use super::Questions;
use super::curriculum::Curriculum;
use super::word_problems::{SOURCE, word_problems};
use crate::RlError;
use crate::config::{DataConfig, TrainConfig, TruncatedReward};
use crate::random::{Purpose, stream_seed};

/// Questions from files, or word problems.
#[derive(Debug)]
pub struct FileQuestions {
    training: Vec<Question>,
    held_out: Vec<Benchmark>,
    renderer: PromptRenderer,
    truncated_reward: TruncatedReward,
    /// Seeds the order of rows, if they are shuffled.
    shuffle: Option<u64>,
    /// Groups without reward variance after which a row is drawn no more; 0: never.
    drop_after: usize,
    /// Rows per draw.
    per_draw: usize,
    grader: Grader,
    /// Prompts dropped for their length.
    dropped: usize,
    /// Prompts truncated on the left.
    truncated: usize,
    /// Reference answers extracted from solutions.
    answers: AnswerCounts,
}

impl FileQuestions {
    /// Reads the run's data files, or generates word problems if there are none, and renders prompts for the model of `files`. Word problems
    /// are graded by `numeric`, unless `reward.by_source` names `arithmetic-words`. Without validation files,
    /// `evaluation.problems` rows of the training files are held out. With them, each file is a benchmark and gets an even share of
    /// `evaluation.problems`, as rows at even distances; what a small file cannot fill goes to the larger ones. With
    /// `evaluation.benchmarks` these are evaluated, and no training row is held out.
    ///
    /// # Errors
    /// If a file cannot be read, a column is missing, too few rows are left for a step, or a scorer cannot be started.
    pub fn new(config: &TrainConfig, files: &ModelFiles) -> Result<Self, RlError> {
        let data = &config.data;
        let renderer = prompt_renderer(data, files)?;
        let options = config.prompt_options();
        let training = if data.train.is_empty() {
            renderer.prepare(word_problems(&config.task.task()), data.max_prompt_tokens, data.overlong)?
        } else {
            read_questions(&data.train, &options, &renderer)?
        };
        let (mut dropped, mut truncated, mut answers) = (training.dropped, training.truncated, training.answers);
        let benchmarks = &config.evaluation.benchmarks;
        let (training, held_out) = if !benchmarks.is_empty() {
            let mut held_out = Vec::with_capacity(benchmarks.len());
            for benchmark in benchmarks {
                let prepared = read_questions(std::slice::from_ref(&benchmark.file), &options, &renderer)?;
                dropped += prepared.dropped;
                truncated += prepared.truncated;
                answers.add(&prepared.answers);
                let questions = evenly_spaced(prepared.questions, benchmark.problems.unwrap_or(usize::MAX));
                held_out.push(Benchmark { name: benchmark.name(), questions });
            }
            (training.questions, held_out)
        } else if data.validation.is_empty() {
            let (training, questions) = hold_out(training.questions, config.evaluation.problems, config.seed)?;
            (training, vec![Benchmark { name: "held_out".into(), questions }])
        } else {
            let mut files = Vec::with_capacity(data.validation.len());
            for path in &data.validation {
                let prepared = read_questions(std::slice::from_ref(path), &options, &renderer)?;
                dropped += prepared.dropped;
                truncated += prepared.truncated;
                answers.add(&prepared.answers);
                files.push((name(path, &data.validation), prepared.questions));
            }
            let sizes: Vec<usize> = files.iter().map(|(_, questions)| questions.len()).collect();
            let benchmark = |((name, questions), share)| Benchmark { name, questions: evenly_spaced(questions, share) };
            let held_out = files.into_iter().zip(shares(config.evaluation.problems, &sizes)).map(benchmark).collect();
            (training.questions, held_out)
        };
        let mut rewards = config.reward.rewards();
        rewards.by_source.entry(SOURCE.into()).or_insert(Reward::Rule(Rule::Numeric));
        // Refuses a step of more prompts than there are rows.
        Epochs::new(training.len(), config.rollout.prompts, None)?;
        Ok(Self {
            shuffle: data.shuffle.then_some(config.seed),
            drop_after: data.drop_after,
            per_draw: config.rollout.prompts,
            training,
            held_out,
            renderer,
            truncated_reward: config.truncated_reward(),
            grader: Grader::new(rewards)?,
            dropped,
            truncated,
            answers,
        })
    }
}

impl FileQuestions {
    /// The rows of a draw. Each pass of a curriculum over the rows left has an order of its own.
    fn rows(&self, draw: usize, curriculum: &Curriculum) -> Result<Vec<usize>, RlError> {
        let kept = curriculum.kept(self.training.len());
        let (draw, before) = curriculum.in_pass(draw);
        let shuffle = self.shuffle.map(|seed| stream_seed(seed, Purpose::Problems, before));
        let epochs = Epochs::new(kept.len(), self.per_draw, shuffle)?;
        Ok(epochs.batch(draw).into_iter().map(|index| kept[index]).collect())
    }
}

impl Questions for FileQuestions {
    fn training(&self, draw: usize, curriculum: &Curriculum) -> Result<Vec<Question>, RlError> {
        Ok(self.rows(draw, curriculum)?.into_iter().map(|row| self.training[row].clone()).collect())
    }

    fn advance(
        &self,
        curriculum: &Curriculum,
        before: usize,
        after: usize,
        have_variance: &[bool],
    ) -> Result<Option<Curriculum>, RlError> {
        if self.drop_after == 0 {
            return Ok(None);
        }
        let mut next = curriculum.clone();
        let rows = (before + 1..=after).map(|draw| self.rows(draw, curriculum)).collect::<Result<Vec<_>, _>>()?;
        next.observe(rows.concat().into_iter().zip(have_variance.iter().copied()));
        next.end_pass(before, after, self.training.len(), self.per_draw, self.drop_after);
        Ok(Some(next))
    }

    fn held_out(&self) -> Result<Vec<Benchmark>, RlError> {
        Ok(self.held_out.clone())
    }

    fn epoch(&self, draws: usize) -> Option<f64> {
        Some((draws * self.per_draw) as f64 / self.training.len() as f64)
    }

    fn grade(&self, answered: &[GradingInput<'_>]) -> Vec<GradedItem> {
        let mut items = grade_all(&self.grader, answered);
        if self.truncated_reward == TruncatedReward::Zero {
            for (item, _) in items.iter_mut().zip(answered).filter(|(_, answer)| !answer.finished) {
                let extracted = item.graded.extracted.take();
                *item = GradedItem { graded: Graded { score: 0.0, extracted }, failure: None };
            }
        }
        items
    }

    fn end_of_turn_warning(&self, eos_token_ids: &[u32]) -> Option<String> {
        self.renderer.end_of_turn_warning(eos_token_ids)
    }

    fn failures(&self) -> Failures {
        self.grader.failures()
    }

    fn describe(&self) -> String {
        let training = self.training.len();
        let held_out: usize = self.held_out.iter().map(|benchmark| benchmark.questions.len()).sum();
        let overlong = match (self.dropped, self.truncated) {
            (0, 0) => String::new(),
            (dropped, 0) => format!("; {dropped} over-long prompts dropped"),
            (_, truncated) => format!("; {truncated} over-long prompts truncated on the left"),
        };
        let answers = self.answers.to_string();
        let answers = if answers.is_empty() { answers } else { format!("; {answers}") };
        format!("{training} rows to train on, {held_out} held out{overlong}{answers}")
    }
}

fn hold_out(questions: Vec<Question>, count: usize, seed: u64) -> Result<(Vec<Question>, Vec<Question>), RlError> {
    if count >= questions.len() {
        return Err(RlError::Config(format!(
            "evaluation.problems is {count}, but there are only {} training rows to hold them out from; set data.validation, or lower it",
            questions.len()
        )));
    }
    let (training, held_out) = split_validation(questions.len(), count, stream_seed(seed, Purpose::HeldOut, 0))?;
    let pick = |rows: Vec<usize>| rows.into_iter().map(|row| questions[row].clone()).collect();
    Ok((pick(training), pick(held_out)))
}

/// Renders the prompts of a run for the model of `files`.
///
/// # Errors
/// If the tokenizer or the template cannot be read.
pub fn prompt_renderer(data: &DataConfig, files: &ModelFiles) -> Result<PromptRenderer, RlError> {
    let renderer = PromptRenderer::new(files, &data.chat_template, data.thinking)?;
    Ok(match data.template_date {
        Some(date) => renderer.with_date(date),
        None => renderer,
    })
}

/// Even shares of `problems` of files with these numbers of rows. What a small file cannot fill goes to the larger ones; each file
/// gets at least one.
fn shares(problems: usize, sizes: &[usize]) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..sizes.len()).collect();
    by_size.sort_by_key(|index| sizes[*index]);
    let (mut left, mut shares) = (problems, vec![0; sizes.len()]);
    for (done, index) in by_size.into_iter().enumerate() {
        shares[index] = (left / (sizes.len() - done)).max(1).min(sizes[index]);
        left = left.saturating_sub(shares[index]);
    }
    shares
}

/// `count` of the questions at even distances, in their order; all of them if there are not more.
fn evenly_spaced(questions: Vec<Question>, count: usize) -> Vec<Question> {
    if count >= questions.len() {
        return questions;
    }
    (0..count).map(|index| questions[index * questions.len() / count].clone()).collect()
}

/// A benchmark's name: the file's stem, or its path if another file has the same stem.
fn name(path: &Path, all: &[std::path::PathBuf]) -> String {
    match path.file_stem() {
        Some(stem) if all.iter().filter(|other| other.file_stem() == Some(stem)).count() == 1 => {
            stem.to_string_lossy().into_owned()
        }
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(count: usize) -> Vec<Question> {
        let question = |index: usize| Question {
            prompt: index.to_string(),
            tokens: vec![1],
            answer: String::new(),
            data_source: String::new(),
        };
        (0..count).map(question).collect()
    }

    #[test]
    fn validation_files_have_even_shares_of_rows_at_even_distances() {
        assert_eq!(shares(90, &[1000, 1000, 1000]), [30, 30, 30]);
        assert_eq!(shares(200, &[500, 30, 1000]), [85, 30, 85]);
        assert_eq!(shares(600, &[30, 30, 40, 500]), [30, 30, 40, 500]);
        assert_eq!(shares(1, &[9, 9]), [1, 1]);
        let chosen = |rows, count| -> Vec<String> {
            evenly_spaced(questions(rows), count).into_iter().map(|question| question.prompt).collect()
        };
        assert_eq!(chosen(10, 4), ["0", "2", "5", "7"]);
        assert_eq!(chosen(3, 3), ["0", "1", "2"]);
        assert_eq!(chosen(2, 5), ["0", "1"]);
        let files = ["a/test.parquet", "b/test.parquet", "aime.jsonl"].map(std::path::PathBuf::from);
        let names: Vec<String> = files.iter().map(|path| name(path, &files)).collect();
        assert_eq!(names, ["a/test.parquet", "b/test.parquet", "aime"]);
    }
}
