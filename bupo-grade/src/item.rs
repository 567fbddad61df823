//! What goes into a grader and what comes out.

use serde::Serialize;

use crate::Graded;

/// One response to grade.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Item<'a> {
    /// What the model wrote.
    pub response: &'a str,
    /// The right answer.
    pub answer: &'a str,
    /// Where the problem is from; it chooses the reward.
    pub data_source: &'a str,
    /// The problem as the model saw it, for scorers that read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<&'a str>,
}

/// What was said of one item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradedItem {
    /// The score; 0 from a scorer that failed.
    pub graded: Graded,
    /// Why a scorer could not score it.
    pub failure: Option<String>,
}

impl GradedItem {
    pub(crate) fn failed(failure: String) -> Self {
        Self { graded: Graded { score: 0.0, extracted: None }, failure: Some(failure) }
    }
}
