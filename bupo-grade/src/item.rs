//! The input and the output of a grader.

use serde::{Deserialize, Serialize};

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

/// The grade of one response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graded {
    /// 1.0 when the answer is right, else 0.0; from scorers and mixes of rules, any number.
    pub score: f64,
    /// What was taken for the answer in the response; `None` when nothing was found.
    pub extracted: Option<String>,
}

impl Graded {
    pub(crate) fn new(same: bool, extracted: Option<&str>) -> Self {
        Self { score: f64::from(u8::from(same)), extracted: extracted.map(str::to_owned) }
    }
}

/// The result for one item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradedItem {
    /// The score. Where `failure` is set, a placeholder: a failed scorer counts as 0 in it.
    pub graded: Graded,
    /// Why an external scorer could not score the item.
    pub failure: Option<String>,
}

impl GradedItem {
    /// The grade, for use where a failed scorer must not count as a score of 0.
    ///
    /// # Errors
    /// The reason, if an external scorer failed on this item.
    pub fn scored(&self) -> Result<&Graded, &str> {
        self.failure.as_deref().map_or(Ok(&self.graded), Err)
    }

    pub(crate) fn failed(failure: String) -> Self {
        Self { graded: Graded { score: 0.0, extracted: None }, failure: Some(failure) }
    }
}
