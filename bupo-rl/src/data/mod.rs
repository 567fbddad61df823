//! Training data: problems from files or of the embedded arithmetic task, and the rewards of responses.

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

/// Training and held-out questions with a reward rule.
pub trait Questions {
    /// The questions of a draw (from 1); the same for the same draw.
    ///
    /// # Errors
    /// If a prompt cannot be encoded.
    fn training(&self, draw: usize) -> Result<Vec<Question>, RlError>;

    /// Questions that training never draws; the same at every call.
    ///
    /// # Errors
    /// If a prompt cannot be encoded.
    fn held_out(&self) -> Result<Vec<Question>, RlError>;

    /// Grades responses, in their order. One that a scorer fails to grade has score 0.
    fn grade(&self, answered: &[GradingInput<'_>]) -> Vec<Graded>;

    /// The failures of scorers so far.
    fn failures(&self) -> Failures {
        Failures::default()
    }

    /// A one-line description.
    fn describe(&self) -> String;
}
