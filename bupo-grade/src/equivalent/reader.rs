//! Reads parts of an answer: the tokens with where brackets close.

use super::parser::Source;
use super::token::Token;

/// Brackets of answers inside brackets of answers, at most.
pub(super) const MOST_DEPTH: usize = 8;

pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
}

impl Reader<'_> {
    /// The pieces between the tokens that are `wanted` and in no bracket.
    pub(super) fn split(&self, start: usize, end: usize, wanted: impl Fn(&Token) -> bool) -> Vec<(usize, usize)> {
        self.split_at(start, end, |at| wanted(&self.source.tokens[at]))
    }

    pub(super) fn split_at(&self, start: usize, end: usize, wanted: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        let mut pieces = Vec::new();
        let (mut from, mut at) = (start, start);
        while at < end {
            if wanted(at) {
                pieces.push((from, at));
                from = at + 1;
            }
            at = if matches!(self.source.tokens[at], Token::Open(_)) { self.source.partner[at] } else { at } + 1;
        }
        pieces.push((from, end));
        pieces
    }
}
