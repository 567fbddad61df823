//! Responses recorded in a JSON-lines file.

use std::path::Path;

use bupo_models::generate::check_tokens;
use bupo_models::{ScoredSequence, Sequence, TextTokenizer};
use bupo_runs::{JsonLine, JsonLinesOptions, read_json_lines};
use serde::Deserialize;

use crate::EvalError;

/// The responses of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordedResponses {
    /// The responses in the file's order.
    pub responses: Vec<ScoredSequence>,
    /// The number of skipped responses without tokens.
    pub empty: usize,
}

/// A line of a file of responses. Token ids are taken as they are; text is encoded.
#[derive(Deserialize)]
struct Line {
    prompt: TextOrTokens,
    response: TextOrTokens,
    prompt_tokens: Option<Vec<u32>>,
    response_tokens: Option<Vec<u32>>,
    #[serde(alias = "reward")]
    score: Option<f64>,
    finished: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of token ids")]
enum TextOrTokens {
    Text(String),
    Tokens(Vec<u32>),
}

/// Reads JSON lines with `prompt` and `response`, each a text or a list of token ids, and optionally `prompt_tokens` and
/// `response_tokens` (which take precedence), `score` or `reward`, and `finished`. A response is cut after its first
/// end-of-sequence id; the first of `eos_token_ids` is appended to a text response that is `finished`.
///
/// # Errors
/// If the file cannot be read or has no responses; with the line's number, if a line is not such an object, has no prompt, or
/// has a token id outside the vocabulary.
pub fn read_responses(
    path: &Path,
    tokenizer: Option<&TextTokenizer>,
    eos_token_ids: &[u32],
    vocab_size: usize,
) -> Result<RecordedResponses, EvalError> {
    let options = JsonLinesOptions { skip_empty_lines: true, ..JsonLinesOptions::default() };
    let mut recorded = RecordedResponses::default();
    for JsonLine { number, value } in read_json_lines::<Line>(path, options)? {
        let at = |reason: String| EvalError::Line { path: path.to_path_buf(), line: number, reason };
        let response = tokenize(value, tokenizer, eos_token_ids).map_err(at)?;
        let Sequence { prompt, response: tokens } = &response.sequence;
        for (name, ids) in [("prompt", prompt), ("response", tokens)] {
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
                let reason = format!("token id {id} of the {name} is outside the model's vocabulary of {vocab_size}");
                return Err(at(reason));
            }
        }
        if tokens.is_empty() {
            recorded.empty += 1;
            continue;
        }
        check_tokens(std::slice::from_ref(prompt), vocab_size)
            .map_err(|_| at("the prompt has no tokens; give at least one character".into()))?;
        recorded.responses.push(response);
    }
    if recorded.responses.is_empty() {
        return Err(EvalError::NoData {
            path: path.to_path_buf(),
            reason: "the file has no responses; write {\"prompt\": ..., \"response\": ...} on each line".into(),
        });
    }
    Ok(recorded)
}

fn tokenize(line: Line, tokenizer: Option<&TextTokenizer>, eos: &[u32]) -> Result<ScoredSequence, String> {
    let tokenizer = tokenizer.ok_or("the model has no tokenizer.json; give prompt and response as token ids");
    let encode_rendered = |text: &str| tokenizer?.encode_rendered(text).map_err(|error| error.to_string());
    // A rendered prompt may already start with the special token that the tokenizer would add.
    let encode_prompt = |text: &str| -> Result<Vec<u32>, String> {
        let (rendered, with_special_tokens) =
            (encode_rendered(text)?, tokenizer?.encode(text).map_err(|error| error.to_string())?);
        Ok(if rendered.first() == with_special_tokens.first() { rendered } else { with_special_tokens })
    };
    let prompt = match (line.prompt_tokens, line.prompt) {
        (Some(ids), _) | (None, TextOrTokens::Tokens(ids)) => ids,
        (None, TextOrTokens::Text(text)) => encode_prompt(&text)?,
    };
    let mut response = match (line.response_tokens, line.response) {
        (Some(ids), _) | (None, TextOrTokens::Tokens(ids)) => ids,
        (None, TextOrTokens::Text(text)) => {
            let end = eos.first().filter(|_| line.finished == Some(true));
            encode_rendered(&text)?.into_iter().chain(end.copied()).collect()
        }
    };
    if let Some(end) = response.iter().position(|id| eos.contains(id)) {
        response.truncate(end + 1);
    }
    Ok(ScoredSequence { sequence: Sequence { prompt, response }, score: line.score })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RecordedResponses, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("responses.jsonl");
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        read_responses(&path, None, &[2, 3], 10).map_err(|error| error.to_string())
    }

    #[test]
    fn responses_are_cut_after_their_first_end_of_sequence_id() -> Result<(), String> {
        let recorded = read(
            "{\"prompt\": [1, 4], \"response\": [5, 6, 3, 2, 2], \"reward\": 1}\n\n\
             {\"prompt\": [1], \"response\": [5, 6, 7]}\n\
             {\"prompt\": \"x\", \"response\": \"y\", \"prompt_tokens\": [9], \"response_tokens\": [8, 2, 1], \"score\": 0.0}\n\
             {\"prompt\": [1], \"response\": []}\n",
        )?;
        let rows: Vec<_> = recorded
            .responses
            .iter()
            .map(|r| (r.sequence.prompt.clone(), r.sequence.response.clone(), r.score))
            .collect();
        assert_eq!(
            rows,
            [(vec![1, 4], vec![5, 6, 3], Some(1.0)), (vec![1], vec![5, 6, 7], None), (vec![9], vec![8, 2], Some(0.0))]
        );
        assert_eq!(recorded.empty, 1);
        Ok(())
    }

    #[test]
    fn errors_name_the_line() {
        for (text, wanted) in [
            ("", "no responses"),
            ("\n\n", "no responses"),
            ("{\"prompt\": [1], \"response\": []}", "no responses"),
            ("{\"prompt\": [1], \"response\": [4]}\n{\"prompt\": [1], \"response\": [40]}", "line 2: token id 40"),
            ("{\"prompt\": [11], \"response\": [4]}", "line 1: token id 11 of the prompt"),
            ("{\"prompt\": [], \"response\": [4]}", "line 1: the prompt has no tokens"),
            ("{\"prompt\": [1]}", "line 1: missing field `response`"),
            ("{\"prompt\": 1, \"response\": [4]}", "a text or a list of token ids"),
            ("[1]", "line 1: "),
            ("{\"prompt\": \"text\", \"response\": [4]}", "no tokenizer.json"),
        ] {
            let error = read(text).err().unwrap_or_default();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
