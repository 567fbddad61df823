//! The text of a response while it is generated.

use super::stop::StopStrings;
use crate::{ModelError, TextTokenizer};

/// What an incomplete character decodes to.
const INCOMPLETE: char = '\u{fffd}';

/// Decodes a growing response piece by piece. Characters are whole, and the pieces together are the text of the response, up to
/// the first stop string.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a TextTokenizer,
    stop: Option<StopStrings<'a>>,
    /// The tokens from here on are decoded with the new ones, because a token's text can depend on the token before it.
    start: usize,
    /// The tokens before this one are in earlier pieces.
    read: usize,
    /// Text that may be the beginning of a stop string.
    held: String,
    ended: bool,
}

impl<'a> TextStream<'a> {
    /// A stream at the start of a response.
    pub fn new(tokenizer: &'a TextTokenizer, stop: Option<StopStrings<'a>>) -> Self {
        Self { tokenizer, stop, start: 0, read: 0, held: String::new(), ended: false }
    }

    /// The text that is new, where `tokens` are all of the response so far. With `done`, also an incomplete character at
    /// the end and the beginning of a stop string.
    ///
    /// # Errors
    /// If the tokenizer cannot decode an id.
    pub fn next(&mut self, tokens: &[u32], done: bool) -> Result<String, ModelError> {
        if self.ended {
            return Ok(String::new());
        }
        let before = self.tokenizer.decode(&tokens[self.start..self.read])?;
        let text = self.tokenizer.decode(&tokens[self.start..])?;
        let new = text.get(before.len()..).unwrap_or_default();
        if !new.is_empty() && (done || !new.ends_with(INCOMPLETE)) {
            self.held.push_str(new);
            (self.start, self.read) = (self.read, tokens.len());
        }
        let Some(stop) = self.stop else { return Ok(std::mem::take(&mut self.held)) };
        let shown = stop.truncate(&self.held).len();
        self.ended = shown < self.held.len();
        let shown = if self.ended || done { shown } else { shown - stop.begun(&self.held) };
        let rest = self.held.split_off(shown);
        Ok(std::mem::replace(&mut self.held, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFiles;
    use crate::tokenizer::byte_tokenizer_json;

    const END: u32 = 256;

    /// The pieces of a text of one token per byte, which ends after `count` bytes.
    fn pieces(text: &str, count: usize, stop: &[&str]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("tokenizer.json"), byte_tokenizer_json("<end>")?.0)?;
        let tokenizer = TextTokenizer::load(&ModelFiles::Folder(folder.path().to_path_buf()))?;
        let strings: Vec<String> = stop.iter().map(ToString::to_string).collect();
        let stop = if strings.is_empty() { None } else { Some(StopStrings::new(&tokenizer, &strings)?) };
        let mut tokens = tokenizer.encode(text)?[..count].to_vec();
        tokens.push(END);
        let mut stream = TextStream::new(&tokenizer, stop);
        let pieces = (1..=tokens.len()).map(|count| stream.next(&tokens[..count], count == tokens.len()));
        Ok(pieces.collect::<Result<Vec<_>, _>>()?)
    }

    #[test]
    fn characters_are_never_cut() -> Result<(), Box<dyn std::error::Error>> {
        let text = "a\u{e9}\u{4e16}b\u{1f600}";
        let shown = pieces(text, text.len(), &[])?;
        assert_eq!(shown.iter().filter(|piece| !piece.is_empty()).count(), text.chars().count());
        assert_eq!(shown.concat(), text);
        // A response that ends within a character.
        assert_eq!(pieces(text, 2, &[])?.concat(), "a\u{fffd}");
        Ok(())
    }

    #[test]
    fn nothing_of_a_stop_string_is_shown() -> Result<(), Box<dyn std::error::Error>> {
        for (text, expected) in [("one Queue. Question: two", "one Queue. "), ("Quest", "Quest"), ("Question:", "")] {
            let shown = pieces(text, text.len(), &["Question:", "?!"])?;
            assert_eq!(shown.concat(), expected);
        }
        assert_eq!(pieces("ab?", 3, &["?!"])?, ["a", "b", "", "?"]);
        Ok(())
    }
}
