//! Questions read from Parquet and JSON-lines files.

use std::path::PathBuf;

use bupo_data::{Columns, read_problems};

use crate::EvalError;
use crate::prompt::{Overlong, Prepared, PromptRenderer};

/// How the rows of data files become prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptOptions {
    /// The columns to read; nothing for the well-known names.
    pub columns: Columns,
    /// Prompts of more tokens are over-long.
    pub max_prompt_tokens: usize,
    /// What becomes of over-long prompts.
    pub overlong: Overlong,
}

/// Reads files and makes questions of their rows.
///
/// # Errors
/// If a file cannot be read, a column is missing, or no row fits the length limit.
pub fn read_questions(
    paths: &[PathBuf],
    options: &PromptOptions,
    renderer: &PromptRenderer,
) -> Result<Prepared, EvalError> {
    let problems = read_problems(paths, &options.columns)?;
    let rows = problems.len();
    let prepared = renderer.prepare(problems, options.max_prompt_tokens, options.overlong)?;
    if prepared.questions.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(EvalError::Config(format!(
            "none of the {rows} prompts of {} fits data.max_prompt_tokens {}",
            names.join(", "),
            options.max_prompt_tokens
        )));
    }
    Ok(prepared)
}
