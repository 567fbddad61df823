//! Questions from Parquet and JSON lines.

use std::path::PathBuf;

use bupo_data::{Columns, Epochs, read_problems, split_validation};
use bupo_grade::{Failures, Graded, Grader, Item};
use bupo_models::ModelFiles;

use super::{Answered, Prepared, PromptRenderer, Question, Questions};
use crate::RlError;
use crate::config::{DataConfig, TrainConfig};
use crate::random::{Purpose, stream_seed};

/// Questions of files, shuffled anew each epoch.
#[derive(Debug)]
pub struct FileQuestions {
    training: Vec<Question>,
    held_out: Vec<Question>,
    epochs: Epochs,
    grader: Grader,
    /// Prompts beyond the length limit that were left out.
    dropped: usize,
    /// And that were cut.
    truncated: usize,
}

impl FileQuestions {
    /// Reads the files a run names and makes prompts for the model of `files`. Without validation files,
    /// `evaluation.problems` rows of the training files are set apart.
    ///
    /// # Errors
    /// If a file cannot be read, a column is missing, too few rows are left for a step, or a scorer cannot be started.
    pub fn new(config: &TrainConfig, files: &ModelFiles) -> Result<Self, RlError> {
        let data = &config.data;
        let renderer = PromptRenderer::new(files, &data.chat_template, data.thinking)?;
        let training = read_questions(&data.train, data, &renderer)?;
        let (mut dropped, mut truncated) = (training.dropped, training.truncated);
        let (training, mut held_out) = if data.validation.is_empty() {
            set_apart(training.questions, config.evaluation.problems, config.seed)?
        } else {
            let held_out = read_questions(&data.validation, data, &renderer)?;
            dropped += held_out.dropped;
            truncated += held_out.truncated;
            (training.questions, held_out.questions)
        };
        held_out.truncate(config.evaluation.problems);
        let shuffle = data.shuffle.then(|| stream_seed(config.seed, Purpose::Problems, 0));
        Ok(Self {
            epochs: Epochs::new(training.len(), config.rollout.prompts, shuffle)?,
            training,
            held_out,
            grader: Grader::new(config.reward.clone())?,
            dropped,
            truncated,
        })
    }
}

impl Questions for FileQuestions {
    fn training(&self, draw: usize) -> Result<Vec<Question>, RlError> {
        Ok(self.epochs.batch(draw).into_iter().map(|row| self.training[row].clone()).collect())
    }

    fn held_out(&self) -> Result<Vec<Question>, RlError> {
        Ok(self.held_out.clone())
    }

    fn grade(&self, answered: &[Answered<'_>]) -> Vec<Graded> {
        grade_all(&self.grader, answered)
    }

    fn failures(&self) -> Failures {
        self.grader.failures()
    }

    fn describe(&self) -> String {
        let (training, held_out) = (self.training.len(), self.held_out.len());
        let overlong = match (self.dropped, self.truncated) {
            (0, 0) => String::new(),
            (dropped, 0) => format!("; {dropped} over-long prompts left out"),
            (_, truncated) => format!("; {truncated} over-long prompts cut on the left"),
        };
        format!("{training} rows to train on, {held_out} held out{overlong}")
    }
}

/// Grades responses by the rule of each one's source.
pub fn grade_all(grader: &Grader, answered: &[Answered<'_>]) -> Vec<Graded> {
    let items: Vec<Item<'_>> = answered
        .iter()
        .map(|answer| Item {
            response: answer.response,
            answer: &answer.question.answer,
            data_source: &answer.question.data_source,
            prompt: Some(&answer.question.prompt),
        })
        .collect();
    grader.grade(&items).into_iter().map(|item| item.graded).collect()
}

/// Reads files and makes questions of their rows.
///
/// # Errors
/// If a file cannot be read, a column is missing, or no row fits the length limit.
pub fn read_questions(paths: &[PathBuf], data: &DataConfig, renderer: &PromptRenderer) -> Result<Prepared, RlError> {
    let columns = Columns {
        prompt: data.prompt_column.clone(),
        answer: data.answer_column.clone(),
        data_source: data.source_column.clone(),
    };
    let problems = read_problems(paths, &columns)?;
    let rows = problems.len();
    let prepared = renderer.prepare(problems, data.max_prompt_tokens, data.overlong)?;
    if prepared.questions.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(RlError::Config(format!(
            "none of the {rows} prompts of {} fits data.max_prompt_tokens {}",
            names.join(", "),
            data.max_prompt_tokens
        )));
    }
    Ok(prepared)
}

fn set_apart(questions: Vec<Question>, count: usize, seed: u64) -> Result<(Vec<Question>, Vec<Question>), RlError> {
    if count >= questions.len() {
        return Err(RlError::Config(format!(
            "evaluation.problems {count} would be set apart of {} training rows; name data.validation files, or lower it",
            questions.len()
        )));
    }
    let (training, held_out) = split_validation(questions.len(), count, stream_seed(seed, Purpose::HeldOut, 0))?;
    let pick = |rows: Vec<usize>| rows.into_iter().map(|row| questions[row].clone()).collect();
    Ok((pick(training), pick(held_out)))
}
