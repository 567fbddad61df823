//! Questions as a model is given them, and the grading of responses to them.

use bupo_grade::{Graded, Grader, Item};

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
pub struct GradingInput<'a> {
    /// The question.
    pub question: &'a Question,
    /// The response's text, special tokens left out.
    pub response: &'a str,
    /// Whether it ended by itself within the length limit.
    pub finished: bool,
}

/// Grades responses by the rule of each one's source.
pub fn grade_all(grader: &Grader, answered: &[GradingInput<'_>]) -> Vec<Graded> {
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
