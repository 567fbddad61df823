//! The columns that problems are read from.

use crate::error::DataError;

/// The columns to read problems from. A column inside a struct is named with dots: `reward_model.ground_truth`.
///
/// A column that is not named is the first of these that the file has:
///
/// - the prompt: `prompt`, `problem`, `question`, `input`;
/// - the answer: `reward_model.ground_truth`, `answer`, `ground_truth`, `solution`, `expected_answer`, `target`;
/// - the data source: `data_source`, or no column.
///
/// These are the names in the layout of verl and in common datasets.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The column of the prompt: text, or a list of messages.
    pub prompt: Option<String>,
    /// The column of the answer: text, a number or a boolean.
    pub answer: Option<String>,
    /// The column of the name of the dataset that a problem is from.
    pub data_source: Option<String>,
}

const PROMPTS: [&str; 4] = ["prompt", "problem", "question", "input"];
const ANSWERS: [&str; 6] =
    ["reward_model.ground_truth", "answer", "ground_truth", "solution", "expected_answer", "target"];
const DATA_SOURCES: [&str; 1] = ["data_source"];

/// The largest number of columns that an error names.
const MAX_LISTED: usize = 30;

/// What a column is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Prompt,
    Answer,
    DataSource,
}

/// The columns of one file that problems are read from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) prompt: String,
    pub(super) answer: String,
    pub(super) data_source: Option<String>,
}

impl Columns {
    /// The columns to read in a file whose columns are those for which `exists` is true.
    pub(super) fn resolve(
        &self,
        file: &str,
        exists: impl Fn(&str) -> bool,
        available: impl Fn() -> String,
    ) -> Result<Names, DataError> {
        let find = |named: &Option<String>, role: Role, defaults: &[&str]| match named {
            Some(name) if exists(name) => Ok(Some(name.clone())),
            Some(name) => Err(DataError::NoColumn {
                file: file.to_owned(),
                name: name.clone(),
                role: role.name(),
                available: available(),
            }),
            None => Ok(defaults.iter().find(|name| exists(name)).map(|name| (*name).to_owned())),
        };
        let missing =
            |role: Role| DataError::NoDefault { file: file.to_owned(), role: role.name(), available: available() };
        Ok(Names {
            prompt: find(&self.prompt, Role::Prompt, &PROMPTS)?.ok_or_else(|| missing(Role::Prompt))?,
            answer: find(&self.answer, Role::Answer, &ANSWERS)?.ok_or_else(|| missing(Role::Answer))?,
            data_source: find(&self.data_source, Role::DataSource, &DATA_SOURCES)?,
        })
    }
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Answer => "answer",
            Self::DataSource => "data source",
        }
    }

    pub(super) fn allowed_types(self) -> &'static str {
        match self {
            Self::Prompt => "text or a list of messages, each with a role and a content",
            Self::Answer | Self::DataSource => "text, a number or a boolean",
        }
    }
}

/// The names of columns, for an error.
pub(super) fn list(names: impl IntoIterator<Item = String>) -> String {
    let mut names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(MAX_LISTED);
    names.truncate(MAX_LISTED);
    match (names.is_empty(), more) {
        (true, _) => "no columns".to_owned(),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(columns: &Columns, there: &[&str]) -> Result<Names, DataError> {
        let available = || list(there.iter().map(|name| (*name).to_owned()));
        columns.resolve("f", |name| there.contains(&name), available)
    }

    #[test]
    fn the_verl_layout_comes_first() {
        let there = ["question", "answer", "prompt", "reward_model.ground_truth", "data_source"];
        let names = resolve(&Columns::default(), &there).unwrap();
        let expected = Names {
            prompt: "prompt".to_owned(),
            answer: "reward_model.ground_truth".to_owned(),
            data_source: Some("data_source".to_owned()),
        };
        assert_eq!(names, expected);
    }

    #[test]
    fn named_columns_override_defaults() {
        let columns = Columns { prompt: Some("question".to_owned()), ..Columns::default() };
        let names = resolve(&columns, &["prompt", "question", "target"]).unwrap();
        assert_eq!((names.prompt.as_str(), names.answer.as_str(), names.data_source), ("question", "target", None));
    }

    #[test]
    fn errors_list_the_columns_of_the_file() {
        let columns = Columns { data_source: Some("origin".to_owned()), ..Columns::default() };
        let error = resolve(&columns, &["prompt", "answer"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "f has no column `origin` for the data source; it has `prompt`, `answer`: name one of them by data.source_column or \
             --source-column"
        );
        let error = resolve(&Columns::default(), &["prompt", "reply"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot tell which column of f holds the answer; it has `prompt`, `reply`: name one of them by data.answer_column or \
             --answer-column"
        );
    }

    #[test]
    fn long_lists_are_truncated() {
        let listed = list((0..32).map(|number| number.to_string()));
        assert!(listed.ends_with("`29` and 2 more"), "{listed}");
    }
}
