//! Training data: problems from files or generated ones, and the rewards of responses.

mod arithmetic;
mod arithmetic_questions;
mod curriculum;
mod files;
mod synthetic;
mod word_problems;

use bupo_eval::{Benchmark, GradingInput, Question};
use bupo_grade::{Failures, GradedItem};

use crate::RlError;

pub use arithmetic::Arithmetic;
pub use arithmetic_questions::ArithmeticQuestions;
pub use curriculum::Curriculum;
pub use files::{FileQuestions, prompt_renderer};
pub use synthetic::{SyntheticProblem, Task};

/// Training and held-out questions with a reward rule.
pub trait Questions {
    /// The questions of a draw (from 1); the same for the same draw and curriculum.
    ///
    /// # Errors
    /// If a prompt cannot be encoded.
    fn training(&self, draw: usize, curriculum: &Curriculum) -> Result<Vec<Question>, RlError>;

    /// The curriculum after a step whose draws are those after `before` up to `after`, with whether the rewards of each of their
    /// groups differ; `None` without one.
    ///
    /// # Errors
    /// If there are too few rows for a draw.
    fn advance(
        &self,
        curriculum: &Curriculum,
        before: usize,
        after: usize,
        have_variance: &[bool],
    ) -> Result<Option<Curriculum>, RlError> {
        let _ = (curriculum, before, after, have_variance);
        Ok(None)
    }

    /// Questions that training never draws, by benchmark; the same at every call.
    ///
    /// # Errors
    /// If a prompt cannot be encoded.
    fn held_out(&self) -> Result<Vec<Benchmark>, RlError>;

    /// Passes over the training rows after this many draws; `None` for generated questions.
    fn epoch(&self, draws: usize) -> Option<f64> {
        let _ = draws;
        None
    }

    /// Grades responses, in their order. One that a scorer fails to grade has score 0 and a failure.
    fn grade(&self, answered: &[GradingInput<'_>]) -> Vec<GradedItem>;

    /// The failures of scorers so far.
    fn failures(&self) -> Failures {
        Failures::default()
    }

    /// A warning about the model's end-of-sequence ids, if its responses may never end.
    fn end_of_turn_warning(&self, eos_token_ids: &[u32]) -> Option<String> {
        let _ = eos_token_ids;
        None
    }

    /// A one-line description.
    fn describe(&self) -> String;
}
