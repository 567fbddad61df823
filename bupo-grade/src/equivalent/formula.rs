//! Reads formulas: sums, products, powers, calls.

use num_bigint::BigInt;

use super::number::Exact;
use super::parser::{MOST_DEPTH, Parser, Source};
use super::token::{Bracket, Token};
use super::tree::Expr;

/// Divisions in one product, at most, for each nests its dividend.
const MOST_DIVISIONS: usize = 12;

/// The formula that the tokens from `start` to `end` are; `None` if they are none.
pub(super) fn formula(source: Source, start: usize, end: usize, depth: usize) -> Option<Expr> {
    let infix = |token: &Token| matches!(token, Token::Command(name) if name == "over" || name == "choose");
    if let Some(middle) = source.find(start, end, infix) {
        let above = Box::new(plain_formula(source, start, middle, depth)?);
        let below = Box::new(plain_formula(source, middle + 1, end, depth)?);
        let over = matches!(&source.tokens[middle], Token::Command(name) if name == "over");
        return Some(if over { Expr::Quotient(above, below) } else { Expr::Binomial(above, below) });
    }
    plain_formula(source, start, end, depth)
}

fn plain_formula(source: Source, start: usize, end: usize, depth: usize) -> Option<Expr> {
    let mut parser = Parser { source, at: start, end, depth, bars: 0 };
    let value = parser.sum()?;
    (parser.at == end).then_some(value)
}

impl<'a> Parser<'a> {
    /// The formula inside the bracket that opens here.
    pub(super) fn group(&mut self) -> Option<Expr> {
        let (_, end) = self.opening()?;
        let inside = self.deeper(self.at + 1, end)?;
        self.at = end + 1;
        Some(inside)
    }

    /// The formula from `start` to `end`, one level further down.
    pub(super) fn deeper(&self, start: usize, end: usize) -> Option<Expr> {
        if self.depth >= MOST_DEPTH {
            return None;
        }
        formula(self.source, start, end, self.depth + 1)
    }

    pub(super) fn sum(&mut self) -> Option<Expr> {
        let mut parts: Vec<Expr> = Vec::new();
        loop {
            let mut negative = false;
            let mut either = None;
            let mut signs = 0;
            while let Some(sign) = self.peek_mark().filter(|mark| matches!(mark, '+' | '-' | '±' | '∓')) {
                self.at += 1;
                signs += 1;
                match sign {
                    '-' => negative = !negative,
                    '+' => {}
                    _ if either.is_some() => return None,
                    sign => either = Some(sign == '∓'),
                }
            }
            if signs > 4 {
                return None;
            }
            if signs == 0 && !parts.is_empty() {
                break;
            }
            let mut part = self.product()?;
            if let Some(flipped) = either {
                part = Expr::PlusMinus { flipped, value: Box::new(part) };
            }
            parts.push(if negative { Expr::Negative(Box::new(part)) } else { part });
            if !matches!(self.peek_mark(), Some('+' | '-' | '±' | '∓')) {
                break;
            }
        }
        Some(Expr::of_parts(parts, Expr::Sum))
    }

    pub(super) fn product(&mut self) -> Option<Expr> {
        let first = match self.mixed_number() {
            Some(value) => self.marked(value)?,
            None => self.factor()?,
        };
        let mut parts = vec![first];
        let mut divisions = 0;
        while let Some(token) = self.peek() {
            match token {
                Token::Mark('*') => {
                    self.at += 1;
                    let factor = self.signed_factor()?;
                    parts.push(factor);
                }
                Token::Mark('/') => {
                    self.at += 1;
                    divisions += 1;
                    if divisions > MOST_DIVISIONS {
                        return None;
                    }
                    let divisor = self.signed_factor()?;
                    let dividend = Expr::of_parts(std::mem::take(&mut parts), Expr::Product);
                    parts.push(Expr::Quotient(Box::new(dividend), Box::new(divisor)));
                }
                Token::Number(_) if matches!(self.source.tokens[self.at - 1], Token::Number(_)) => return None,
                token if token.starts_factor() || (self.peek_mark() == Some('|') && self.bars == 0) => {
                    parts.push(self.factor()?);
                }
                _ => break,
            }
        }
        Some(Expr::of_parts(parts, Expr::Product))
    }

    /// A factor after `*` or `/`, which may have a sign of its own.
    fn signed_factor(&mut self) -> Option<Expr> {
        if self.eat('-') {
            return Some(Expr::Negative(Box::new(self.factor()?)));
        }
        self.eat('+');
        self.factor()
    }

    /// `1\frac{1}{2}` and `1 1/2`: a whole number and a proper fraction of plain integers are added.
    fn mixed_number(&mut self) -> Option<Expr> {
        let integer = |at: usize| match self.source.tokens.get(at) {
            Some(Token::Number(digits)) if at < self.end => digits.parse::<u64>().ok(),
            _ => None,
        };
        // An argument of `\frac` that is a plain integer, and how many tokens it takes.
        let argument = |at: usize| match self.source.tokens.get(at)? {
            Token::Open(Bracket::Group) if self.source.partner[at] == at + 2 => Some((integer(at + 1)?, 3)),
            _ => Some((integer(at)?, 1)),
        };
        let whole = integer(self.at)?;
        let (numerator, denominator, length) = match self.source.tokens.get(self.at + 1)? {
            Token::Command(name) if name == "frac" => {
                let (numerator, first) = argument(self.at + 2)?;
                let (denominator, second) = argument(self.at + 2 + first)?;
                (numerator, denominator, 2 + first + second)
            }
            Token::Number(_) if self.source.spaced[self.at + 1] => {
                if self.source.tokens.get(self.at + 2) != Some(&Token::Mark('/')) {
                    return None;
                }
                (integer(self.at + 1)?, integer(self.at + 3)?, 4)
            }
            _ => return None,
        };
        if numerator >= denominator || numerator == 0 || whole == 0 || self.at + length > self.end {
            return None;
        }
        // `2\frac{1}{3}^2` is no mixed number.
        if self.source.tokens.get(self.at + length) == Some(&Token::Mark('^')) {
            return None;
        }
        self.at += length;
        let fuel = self.source.fuel;
        let fraction = Exact::ratio(numerator.into(), denominator.into(), fuel)?;
        Some(Expr::Number(Exact::integer(BigInt::from(whole))?.add(&fraction, fuel)?))
    }
}
