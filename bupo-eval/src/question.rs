//! Questions and the grading of responses to them.

use bupo_grade::{GradedItem, Grader, Item};
use serde::{Deserialize, Serialize};

/// A tokenized question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The prompt, with the chat template applied.
    pub prompt: String,
    /// The prompt's token ids, at least one.
    pub tokens: Vec<u32>,
    /// The reference answer.
    pub answer: String,
    /// The data source, by which a grading rule can be chosen.
    pub data_source: String,
}

/// A response to grade.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradingInput<'a> {
    /// The question.
    pub question: &'a Question,
    /// The response's text without special tokens.
    pub response: &'a str,
    /// Whether an end-of-sequence token ended it within the length limit.
    pub finished: bool,
}

/// Grades responses by the rule of each question's data source.
pub fn grade_all(grader: &Grader, answered: &[GradingInput<'_>]) -> Vec<GradedItem> {
    let items: Vec<Item<'_>> = answered
        .iter()
        .map(|answer| Item {
            response: answer.response,
            answer: &answer.question.answer,
            data_source: &answer.question.data_source,
            prompt: Some(&answer.question.prompt),
        })
        .collect();
    grader.grade(&items)
}
