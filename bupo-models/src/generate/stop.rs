//! Stop strings: texts that end a response.

use crate::{ModelError, TextTokenizer};

/// Texts that end a response when its decoded text, without special tokens, contains one.
#[derive(Debug, Clone, Copy)]
pub struct StopStrings<'a> {
    tokenizer: &'a TextTokenizer,
    strings: &'a [String],
}

impl<'a> StopStrings<'a> {
    /// Stops at any of `strings`.
    ///
    /// # Errors
    /// If a string is empty.
    pub fn new(tokenizer: &'a TextTokenizer, strings: &'a [String]) -> Result<Self, ModelError> {
        if strings.iter().any(String::is_empty) {
            return Err(ModelError::StopString);
        }
        Ok(Self { tokenizer, strings })
    }

    /// The text before the first stop string: a response's tokens include those of the stop string itself.
    pub fn truncate<'t>(&self, text: &'t str) -> &'t str {
        let start = self.strings.iter().filter_map(|string| text.find(string)).min();
        &text[..start.unwrap_or(text.len())]
    }

    /// The length in bytes of the longest end of `text` with which a stop string begins.
    pub(super) fn begun(&self, text: &str) -> usize {
        let mut starts = text.char_indices().map(|(start, _)| start);
        let start = starts.find(|start| self.strings.iter().any(|string| string.starts_with(&text[*start..])));
        text.len() - start.unwrap_or(text.len())
    }

    /// Whether the newest of `tokens` completes a stop string.
    pub(super) fn stops(&self, tokens: &[u32]) -> Result<bool, ModelError> {
        let longest = self.strings.iter().map(String::len).max().unwrap_or(0);
        let Some(before) = tokens.len().checked_sub(1).filter(|_| longest > 0) else { return Ok(false) };
        // Few tokens are decoded, enough for the longest string before the newest one: most tokens are at least a byte,
        // some none.
        let mut count = longest.min(before);
        while count < before && self.tokenizer.decode(&tokens[before - count..before])?.len() < longest {
            count = (2 * count).min(before);
        }
        let text = self.tokenizer.decode(&tokens[before - count..])?;
        Ok(self.strings.iter().any(|string| text.contains(string)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFiles;
    use crate::tokenizer::byte_tokenizer_json;

    const END: u32 = 256;

    fn tokenizer() -> TextTokenizer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), byte_tokenizer_json("<end>").unwrap().0).unwrap();
        TextTokenizer::load(&ModelFiles::Folder(folder.path().to_path_buf())).unwrap()
    }

    #[test]
    fn a_response_stops_at_the_token_that_completes_a_string() {
        let tokenizer = tokenizer();
        let strings = ["Question:".to_string(), "\u{e9}\u{4e16}".to_string()];
        let stop = StopStrings::new(&tokenizer, &strings).unwrap();
        for (text, expected) in [
            ("a long enough text before it. Question: more", Some("a long enough text before it. ")),
            ("Question:", Some("")),
            ("an \u{e9} and \u{e9}\u{4e16}.", Some("an \u{e9} and ")),
            ("Question, \u{4e16}\u{e9}", None),
        ] {
            let mut tokens = tokenizer.encode(text).unwrap();
            // Special tokens have no text.
            tokens.splice(4..4, [END; 40]);
            let first = (1..=tokens.len()).find(|count| stop.stops(&tokens[..*count]).unwrap());
            let shown = first.map(|count| tokenizer.decode(&tokens[..count]).unwrap());
            assert_eq!(shown.as_deref().map(|text| stop.truncate(text)), expected, "{text}");
            if let Some(shown) = shown {
                assert!(strings.iter().any(|string| shown.ends_with(string)), "{shown}");
            }
        }
    }

    #[test]
    fn an_empty_string_is_refused() {
        assert!(StopStrings::new(&tokenizer(), &[String::new()]).is_err());
        assert!(!StopStrings::new(&tokenizer(), &[]).unwrap().stops(&[1, 2]).unwrap());
    }
}
