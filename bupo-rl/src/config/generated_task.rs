//! Problems that are generated rather than read from files.

use serde::{Deserialize, Serialize};

use super::TrainConfig;
use super::sections::DataConfig;
use crate::RlError;
use crate::data::Arithmetic;

/// The problems of a run without training files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GeneratedTask {
    /// Sums in the notation of the embedded model, new ones in every step.
    #[default]
    Arithmetic,
    /// The same as word problems, rendered by the chat template, for any model. There is one set of them, treated as rows of a file
    /// are.
    ArithmeticWords,
}

/// The sizes of generated problems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// The largest number of terms in a problem, at least 2; the smallest is 2.
    pub max_terms: usize,
    /// The largest number in a problem, at least 2; the smallest is 1.
    pub max_number: u32,
}

impl Default for TaskConfig {
    fn default() -> Self {
        let Arithmetic { max_terms, max_number } = Arithmetic::default();
        Self { max_terms, max_number }
    }
}

impl TaskConfig {
    /// The task with these sizes.
    pub fn task(&self) -> Arithmetic {
        Arithmetic { max_terms: self.max_terms, max_number: self.max_number }
    }
}

impl DataConfig {
    /// Whether problems are in the notation of the embedded model, without a chat template.
    pub fn is_embedded_task(&self) -> bool {
        self.train.is_empty() && self.task == GeneratedTask::Arithmetic
    }
}

impl TrainConfig {
    /// Checks the settings of generated problems.
    pub(super) fn check_task(&self) -> Result<(), RlError> {
        let data = &self.data;
        if data.train.is_empty() && !data.validation.is_empty() {
            return Err(RlError::Config("data.validation names files but data.train does not; name both".into()));
        }
        if !data.train.is_empty() && data.task != GeneratedTask::default() {
            return Err(RlError::Config(
                "data.task generates problems, but data.train names files; leave out one of them".into(),
            ));
        }
        if data.drop_after > 0 && data.is_embedded_task() {
            return Err(RlError::Config(
                "data.drop_after needs data.train: the embedded task makes new problems in every step; name files, or set it to 0".into(),
            ));
        }
        Ok(())
    }
}
