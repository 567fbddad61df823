//! The state of the lexer, and what it produces.

use crate::equivalent::token::{Bracket, Token};

/// How an ambiguous spelling is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::equivalent) struct Reading {
    /// `1,234` is a list, not a number with a thousands separator.
    pub(in crate::equivalent) commas_separate: bool,
    /// `2e3` is a power of ten, not a product with Euler's number.
    pub(in crate::equivalent) powers_of_ten: bool,
    /// `5 m` is a length, not a product with a variable.
    pub(in crate::equivalent) letters_are_units: bool,
}

#[derive(Debug)]
pub(in crate::equivalent) struct Lexed {
    pub(in crate::equivalent) tokens: Vec<Token>,
    /// For every token, whether a space stands before it.
    pub(in crate::equivalent) spaced: Vec<bool>,
    /// Which choices of the reading made a difference.
    pub(in crate::equivalent) ambiguous: Reading,
}

impl Lexed {
    pub(in crate::equivalent) fn remove(&mut self, at: usize) {
        self.tokens.remove(at);
        self.spaced.remove(at);
    }
}

pub(super) struct Lexer<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) reading: Reading,
    /// How many brackets that may hold a list are open.
    pub(super) depth: usize,
    /// How many style commands the lexer is inside of.
    pub(super) nesting: usize,
    pub(super) space: bool,
    /// Whether runs of letters that name units are units.
    pub(super) units: bool,
    pub(super) out: Lexed,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, reading: Reading) -> Self {
        let out = Lexed { tokens: Vec::new(), spaced: Vec::new(), ambiguous: Reading::default() };
        Self { text, at: 0, reading, depth: 0, nesting: 0, space: false, units: false, out }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn push(&mut self, token: Token) {
        // `&` before a relation only aligns it.
        if matches!(token, Token::Relation(_)) && self.out.tokens.last() == Some(&Token::Mark('&')) {
            self.out.tokens.pop();
            self.out.spaced.pop();
        }
        match token {
            Token::Open(Bracket::Round | Bracket::Square | Bracket::Curly | Bracket::Angle) => self.depth += 1,
            Token::Close(Bracket::Round | Bracket::Square | Bracket::Curly | Bracket::Angle) => {
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        self.out.tokens.push(token);
        self.out.spaced.push(std::mem::take(&mut self.space));
    }

    pub(super) fn after_number(&self) -> bool {
        matches!(self.out.tokens.last(), Some(Token::Number(_)))
    }

    pub(super) fn after_degree(&self) -> bool {
        matches!(
            self.out.tokens.as_slice(),
            [.., Token::Mark('°')] | [.., Token::Mark('°'), Token::Close(Bracket::Group)]
        )
    }

    /// Whether the last token ends a value, so that a unit may follow.
    pub(super) fn after_value(&self) -> bool {
        match self.out.tokens.last() {
            Some(Token::Number(_) | Token::Word(_) | Token::Repeating(_)) => true,
            Some(Token::Close(bracket)) => matches!(bracket, Bracket::Group | Bracket::Round),
            Some(Token::Name(name)) => matches!(name.as_str(), "pi" | "mu"),
            Some(Token::Mark(mark)) => *mark == '\u{b0}',
            _ => false,
        }
    }
}
