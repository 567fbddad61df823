//! Checks that the token ids of given responses are of the analyzed model's tokenizer.

use std::path::Path;

use bupo_models::{ModelError, TextTokenizer};
use bupo_runs::{JsonLinesOptions, read_json_lines};
use serde::Deserialize;
use serde_json::Value;

use crate::error::CliError;

/// Characters of a text shown in an error.
const SHOWN: usize = 40;

/// What the check reads of a line. `bupo_eval::read_responses` checks everything else.
#[derive(Deserialize)]
struct Line {
    model: Option<String>,
    prompt: Value,
    response: Value,
    prompt_tokens: Option<Vec<u32>>,
    response_tokens: Option<Vec<u32>>,
}

/// Checks the token ids of a file of responses against the texts in it, or, if a line has no text, the model that the line names
/// against those that are analyzed.
///
/// # Errors
/// Names the first line that disagrees.
pub fn check_tokens_of(
    path: &Path,
    tokenizer: Option<&TextTokenizer>,
    eos_token_ids: &[u32],
    model: &str,
    analyzed: &[String],
) -> Result<(), CliError> {
    let options = JsonLinesOptions { skip_empty_lines: true, ..JsonLinesOptions::default() };
    for line in read_json_lines::<Line>(path, options)? {
        let number = line.number;
        let fail = |reason: String| CliError::Message(format!("{} line {number}: {reason}", path.display()));
        let Line { model: named, prompt, response, prompt_tokens, response_tokens } = line.value;
        let source = named.as_deref().map_or(String::new(), |named| format!(", which the line names as {named}'s"));
        let mut compared = false;
        for (name, text, ids) in [("prompt", &prompt, &prompt_tokens), ("response", &response, &response_tokens)] {
            let (Some(tokenizer), Value::String(text), Some(ids)) = (tokenizer, text, ids) else { continue };
            if text.trim().is_empty() {
                continue;
            }
            compared = true;
            if let Some(decoded) = contradiction(tokenizer, ids, text, eos_token_ids)? {
                return Err(fail(format!(
                    "{name}_tokens{source} are not of the tokenizer of {model}: they decode to {decoded:?}, and the {name} \
                     is {:?}; without prompt_tokens and response_tokens, the texts are encoded anew",
                    shortened(text)
                )));
            }
        }
        let has_ids = response_tokens.is_some() || response.is_array();
        let other = named.filter(|named| named != model && !analyzed.contains(named));
        if let Some(other) = other.filter(|_| has_ids && !compared) {
            return Err(fail(format!(
                "the line has token ids of {other} and no text to compare them with, and {model} is analyzed; if both have \
                 the same tokenizer, remove `model` from the lines"
            )));
        }
    }
    Ok(())
}

/// What the ids decode to, if that is not the text. Texts can be without special tokens, as they are decoded, or with them, as a
/// chat template renders them, and may end before the ids do, at an end-of-sequence id.
fn contradiction(
    tokenizer: &TextTokenizer,
    ids: &[u32],
    text: &str,
    eos_token_ids: &[u32],
) -> Result<Option<String>, ModelError> {
    let end = ids.iter().position(|id| eos_token_ids.contains(id)).map_or(ids.len(), |position| position + 1);
    let decoded = tokenizer.decode(ids)?;
    let agrees = decoded.trim() == text.trim()
        || tokenizer.decode(&ids[..end])?.trim() == text.trim()
        || tokenizer.encode_rendered(text)? == ids
        || tokenizer.encode(text)? == ids;
    Ok((!agrees).then(|| shortened(&decoded)))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
