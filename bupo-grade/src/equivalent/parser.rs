//! The state of the parser of formulas.
//!
//! An own parser: no permissive Rust library reads LaTeX formulas as models write them, with units, sets and intervals.

use super::number::Fuel;
use super::token::{Bracket, Token};

/// Formulas inside formulas, at most; beyond it an answer is only compared as written.
pub(super) const MOST_DEPTH: usize = 32;

/// Tokens with, for every bracket, where its partner stands.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) spaced: &'a [bool],
    pub(super) partner: &'a [usize],
    pub(super) fuel: &'a Fuel,
}

/// For every bracket the place of its partner; `None` where brackets do not match.
pub(super) fn partners(tokens: &[Token]) -> Option<Vec<usize>> {
    let mut partner = vec![0; tokens.len()];
    let mut open: Vec<(usize, &Bracket)> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Open(bracket) => open.push((at, bracket)),
            Token::Close(bracket) => {
                let (start, opened) = open.pop()?;
                let interval = |bracket: &Bracket| matches!(bracket, Bracket::Round | Bracket::Square);
                if opened != bracket && !(interval(opened) && interval(bracket)) {
                    return None;
                }
                (partner[start], partner[at]) = (at, start);
            }
            _ => {}
        }
    }
    open.is_empty().then_some(partner)
}

/// A place in the tokens from `at` to `end`.
pub(super) struct Parser<'a> {
    pub(super) source: Source<'a>,
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) depth: usize,
    /// How many `|` are open.
    pub(super) bars: usize,
}

impl Source<'_> {
    /// The first token from `start` to `end` that is `wanted` and in no bracket.
    pub(super) fn find(&self, start: usize, end: usize, wanted: impl Fn(&Token) -> bool) -> Option<usize> {
        let mut at = start;
        while at < end {
            match self.tokens.get(at)? {
                token if wanted(token) => return Some(at),
                Token::Open(_) => at = self.partner[at] + 1,
                _ => at += 1,
            }
        }
        None
    }
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<&'a Token> {
        if self.at < self.end { self.source.tokens.get(self.at) } else { None }
    }

    pub(super) fn peek_mark(&self) -> Option<char> {
        match self.peek() {
            Some(Token::Mark(mark)) => Some(*mark),
            _ => None,
        }
    }

    pub(super) fn eat(&mut self, mark: char) -> bool {
        let found = self.peek_mark() == Some(mark);
        self.at += usize::from(found);
        found
    }

    /// The bracket that opens here, and where its content ends.
    pub(super) fn opening(&self) -> Option<(&'a Bracket, usize)> {
        match self.peek()? {
            Token::Open(bracket) => {
                let end = self.source.partner[self.at];
                (end < self.end).then_some((bracket, end))
            }
            _ => None,
        }
    }
}
