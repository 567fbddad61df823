//! The prompts of `bupo generate`.

use bupo_models::{ModelError, TextTokenizer};

use crate::args::GenerateArgs;
use crate::chat::TextInput;
use crate::error::CliError;
use crate::files::{read_prompts, read_tokens};

pub struct GivenPrompt {
    /// What is printed before the response.
    pub shown: String,
    /// The text that the model gets; `None` if the prompt is given as token ids.
    pub text: Option<String>,
    pub tokens: Vec<u32>,
}

/// Reads the prompts and renders them.
///
/// # Errors
/// If a file cannot be read, there is no prompt, or a text cannot be rendered and encoded.
pub fn read(
    args: &GenerateArgs,
    input: &TextInput<'_>,
    tokenizer: Result<&TextTokenizer, &ModelError>,
) -> Result<Vec<GivenPrompt>, CliError> {
    if let Some(path) = &args.tokens {
        let rows = read_tokens(path)?;
        if rows.is_empty() {
            return Err(CliError::Message("there are no prompts; give at least one row of tokens".into()));
        }
        return Ok(rows.into_iter().map(|tokens| GivenPrompt { shown: String::new(), text: None, tokens }).collect());
    }
    let tokenizer = tokenizer.map_err(|error| CliError::Message(error.to_string()))?;
    let texts = match &args.prompts {
        Some(path) => read_prompts(path)?,
        None => args.prompt.iter().cloned().collect(),
    };
    let encoded = input.encode(tokenizer, &texts)?;
    if encoded.iter().any(|encoded| encoded.tokens.is_empty()) {
        return Err(CliError::Message("the prompt has no tokens; give at least one character".into()));
    }
    let shown = |text: &String| match (args.chat.is_active(), &args.prompts) {
        (false, _) => text.clone(),
        (true, None) => String::new(),
        (true, Some(_)) => format!("> {text}\n"),
    };
    let prompts = texts.iter().zip(encoded);
    Ok(prompts
        .map(|(text, encoded)| GivenPrompt { shown: shown(text), text: Some(encoded.text), tokens: encoded.tokens })
        .collect())
}
