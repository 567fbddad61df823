//! Training data: problems of files or of the embedded arithmetic task, and their rewards.

mod arithmetic;
mod arithmetic_questions;
mod files;
mod synthetic;

use bupo_eval::{GradingInput, Question};
use bupo_grade::{Failures, Graded};

use crate::RlError;

pub use arithmetic::Arithmetic;
pub use arithmetic_questions::ArithmeticQuestions;
pub use files::FileQuestions;
pub use synthetic::{SyntheticProblem, Task};

/// Questions to train and to measure on, with a rule that checks answers.
pub trait Questions {
    /// The questions of a draw, from 1. The same draw always gives the same ones.
    ///
    /// # Errors
    /// If a prompt cannot be encoded.
    fn training(&self, draw: usize) -> Result<Vec<Question>, RlError>;

    /// Questions that training never draws; the same at every call.
    ///
    /// # Errors
    /// If a prompt cannot be encoded.
    fn held_out(&self) -> Result<Vec<Question>, RlError>;

    /// What responses are worth, in their order. One that a scorer fails to grade is worth nothing.
    fn grade(&self, answered: &[GradingInput<'_>]) -> Vec<Graded>;

    /// What scorers failed to grade so far.
    fn failures(&self) -> Failures {
        Failures::default()
    }

    /// The questions in a line.
    fn describe(&self) -> String;
}
