//! Questions from Parquet and JSON-lines files.

use bupo_data::{Epochs, split_validation};
use bupo_eval::{GradingInput, PromptRenderer, Question, grade_all, read_questions};
use bupo_grade::{Failures, Graded, Grader};
use bupo_models::ModelFiles;

use super::Questions;
use crate::RlError;
use crate::config::TrainConfig;
use crate::random::{Purpose, stream_seed};

/// Questions from files.
#[derive(Debug)]
pub struct FileQuestions {
    training: Vec<Question>,
    held_out: Vec<Question>,
    epochs: Epochs,
    grader: Grader,
    /// Prompts dropped for their length.
    dropped: usize,
    /// Prompts truncated on the left.
    truncated: usize,
}

impl FileQuestions {
    /// Reads the run's data files and renders prompts for the model of `files`. Without validation files,
    /// `evaluation.problems` rows of the training files are held out.
    ///
    /// # Errors
    /// If a file cannot be read, a column is missing, too few rows are left for a step, or a scorer cannot be started.
    pub fn new(config: &TrainConfig, files: &ModelFiles) -> Result<Self, RlError> {
        let data = &config.data;
        let renderer = PromptRenderer::new(files, &data.chat_template, data.thinking)?;
        let options = data.prompt_options();
        let training = read_questions(&data.train, &options, &renderer)?;
        let (mut dropped, mut truncated) = (training.dropped, training.truncated);
        let (training, mut held_out) = if data.validation.is_empty() {
            hold_out(training.questions, config.evaluation.problems, config.seed)?
        } else {
            let held_out = read_questions(&data.validation, &options, &renderer)?;
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

    fn grade(&self, answered: &[GradingInput<'_>]) -> Vec<Graded> {
        grade_all(&self.grader, answered)
    }

    fn failures(&self) -> Failures {
        self.grader.failures()
    }

    fn describe(&self) -> String {
        let (training, held_out) = (self.training.len(), self.held_out.len());
        let overlong = match (self.dropped, self.truncated) {
            (0, 0) => String::new(),
            (dropped, 0) => format!("; {dropped} over-long prompts dropped"),
            (_, truncated) => format!("; {truncated} over-long prompts truncated on the left"),
        };
        format!("{training} rows to train on, {held_out} held out{overlong}")
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
