//! Where a run's questions come from, and what answers to them are worth.

mod arithmetic;
mod files;
mod prompt;

use bupo_grade::{Failures, Graded};

use crate::RlError;

pub use arithmetic::ArithmeticQuestions;
pub use files::{FileQuestions, grade_all, read_questions};
pub use prompt::{ChatChoice, Overlong, Prepared, PromptRenderer};

/// A question as a model gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its text, chat template applied.
    pub prompt: String,
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// The right answer.
    pub answer: String,
    /// Where it comes from; its answers may be graded by that.
    pub data_source: String,
}

/// A response to a question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answered<'a> {
    /// The question.
    pub question: &'a Question,
    /// The response's text, special tokens left out.
    pub response: &'a str,
    /// Whether it ended by itself within the length limit.
    pub finished: bool,
}

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
    fn grade(&self, answered: &[Answered<'_>]) -> Vec<Graded>;

    /// What scorers failed to grade so far.
    fn failures(&self) -> Failures {
        Failures::default()
    }

    /// The questions in a line.
    fn describe(&self) -> String;
}
