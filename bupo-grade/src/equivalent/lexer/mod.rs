//! Splits an answer into tokens, and drops what only changes its look.

mod arguments;
mod character;
mod command;
mod cursor;
mod letters;
mod number;
mod text;

pub(super) use cursor::{Lexed, Reading};

use cursor::Lexer;

/// The tokens of `text`; `None` for what is not well formed.
pub(super) fn lex(text: &str, reading: Reading) -> Option<Lexed> {
    let mut lexer = Lexer::new(text, reading);
    lexer.run()?;
    Some(lexer.out)
}

impl Lexer<'_> {
    pub(super) fn run(&mut self) -> Option<()> {
        while let Some(next) = self.rest().chars().next() {
            match next {
                '0'..='9' => self.number()?,
                '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
                'a'..='z' | 'A'..='Z' => self.letters(),
                // The space of a trailing `\ ` was trimmed.
                '\\' if self.rest().len() == 1 => self.at += 1,
                '\\' => self.command()?,
                c if c.is_whitespace() || c == '~' || c == '$' => {
                    self.at += c.len_utf8();
                    self.space = true;
                }
                c => {
                    self.at += c.len_utf8();
                    self.character(c);
                }
            }
        }
        Some(())
    }
}
