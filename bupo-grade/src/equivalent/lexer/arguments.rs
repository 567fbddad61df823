//! Arguments of commands.

use super::cursor::Lexer;
use crate::braces::until_closing;

/// Style commands inside style commands, at most.
const MOST_NESTING: usize = 8;

impl<'a> Lexer<'a> {
    /// The next argument, without its braces.
    pub(super) fn argument(&mut self) -> Option<&'a str> {
        let rest = self.rest().trim_start();
        self.at = self.text.len() - rest.len();
        if let Some(content) = rest.strip_prefix('{') {
            let argument = until_closing(content)?;
            self.at += argument.len() + 2;
            return Some(argument);
        }
        let length = match rest.strip_prefix('\\') {
            Some(command) => 1 + command.bytes().take_while(u8::is_ascii_alphabetic).count().max(1),
            None => rest.chars().next()?.len_utf8(),
        };
        let argument = rest.get(..length)?;
        self.at += length;
        Some(argument)
    }

    /// The argument of a text command; one whose end was taken off with a remark goes on to the end.
    pub(super) fn text_argument(&mut self) -> Option<&'a str> {
        self.argument().or_else(|| {
            let rest = self.rest().trim_start().strip_prefix('{')?;
            self.at = self.text.len();
            Some(rest)
        })
    }

    /// Skips an argument in square brackets.
    pub(super) fn skip_option(&mut self) {
        let rest = self.rest().trim_start();
        if let Some(end) = rest.strip_prefix('[').and_then(|content| content.find(']')) {
            self.at = self.text.len() - rest.len() + end + 2;
        }
    }

    /// Skips a length such as `3pt` or `-0.2em`.
    pub(super) fn skip_length(&mut self) {
        let rest = self.rest().trim_start();
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | ' '));
        if let Some(after) =
            ["pt", "em", "ex", "mm", "cm", "mu", "px", "in"].iter().find_map(|unit| number.strip_prefix(unit))
        {
            self.at = self.text.len() - after.len();
        }
    }

    /// Lexes an argument in place.
    pub(super) fn inside(&mut self, argument: &'a str) -> Option<()> {
        if self.nesting == MOST_NESTING {
            return None;
        }
        let (text, at) = (self.text, self.at);
        (self.text, self.at) = (argument, 0);
        self.nesting += 1;
        let done = self.run();
        self.nesting -= 1;
        (self.text, self.at) = (text, at);
        done
    }
}
