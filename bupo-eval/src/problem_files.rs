//! Questions read from Parquet and JSON-lines files.

use std::path::PathBuf;

use bupo_data::{Columns, read_problems};

use crate::EvalError;
use crate::answers::{AnswerCounts, extract_answers};
use crate::prompt::{Overlong, Prepared, PromptRenderer};

/// How rows of data files are made into prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptOptions {
    /// The columns to read; `None` for the usual names.
    pub columns: Columns,
    /// The longest prompt, in tokens.
    pub max_prompt_tokens: usize,
    /// What happens to longer prompts.
    pub overlong: Overlong,
    /// Whether the answer is extracted from reference answers that hold a whole solution; see [`bupo_grade::right_answer`].
    pub extract_answers: bool,
}

/// Reads files and makes their rows into questions.
///
/// # Errors
/// If a file cannot be read, a column is missing, or no row fits the length limit.
pub fn read_questions(
    paths: &[PathBuf],
    options: &PromptOptions,
    renderer: &PromptRenderer,
) -> Result<Prepared, EvalError> {
    let mut problems = read_problems(paths, &options.columns)?;
    let rows = problems.len();
    let answers = if options.extract_answers { extract_answers(&mut problems) } else { AnswerCounts::default() };
    let prepared = Prepared { answers, ..renderer.prepare(problems, options.max_prompt_tokens, options.overlong)? };
    if prepared.questions.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(EvalError::Config(format!(
            "all {rows} prompts of {} are longer than {} tokens (data.max_prompt_tokens, --max-prompt-tokens); raise it, or truncate them \
             on the left (data.overlong, --overlong)",
            names.join(", "),
            options.max_prompt_tokens
        )));
    }
    Ok(prepared)
}
