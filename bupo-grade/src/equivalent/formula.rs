//! Reads formulas: sums, products, powers, calls.

use num_bigint::BigInt;

use super::factor;
use super::number::{Exact, Fuel};
use super::token::{Bracket, Token};
use super::tree::{Constant, Expr};

/// Formulas inside formulas, at most; beyond it an answer is only compared as written.
pub(super) const MOST_DEPTH: usize = 32;
/// Divisions in one product, at most, for each nests its dividend.
const MOST_DIVISIONS: usize = 12;

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
        Some(single(parts, Expr::Sum))
    }

    pub(super) fn product(&mut self) -> Option<Expr> {
        let first = match self.mixed_number() {
            Some(value) => factor::marked(self, value)?,
            None => factor::factor(self)?,
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
                    let dividend = single(std::mem::take(&mut parts), Expr::Product);
                    parts.push(Expr::Quotient(Box::new(dividend), Box::new(divisor)));
                }
                Token::Number(_) if matches!(self.source.tokens[self.at - 1], Token::Number(_)) => return None,
                token if factor::starts(token) || (self.peek_mark() == Some('|') && self.bars == 0) => {
                    parts.push(factor::factor(self)?);
                }
                _ => break,
            }
        }
        Some(single(parts, Expr::Product))
    }

    /// A factor after `*` or `/`, which may have a sign of its own.
    fn signed_factor(&mut self) -> Option<Expr> {
        if self.eat('-') {
            return Some(Expr::Negative(Box::new(factor::factor(self)?)));
        }
        self.eat('+');
        factor::factor(self)
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

/// The value of a decimal number.
pub(super) fn decimal(text: &str, fuel: &Fuel) -> Option<Exact> {
    let (digits, power) = match text.split_once(['e', 'E']) {
        Some((digits, power)) => (digits, power.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    fuel.burn(((digits.len() / 16) as u64).saturating_pow(2))?;
    let value = Exact::integer(format!("{whole}{fraction}").parse().ok()?)?;
    let shift = power - i64::try_from(fraction.len()).ok()?;
    match shift {
        0 => Some(value),
        _ => value.mul(&Exact::from(10).pow(shift, fuel)?, fuel),
    }
}

/// The list as it is, or its only part.
pub(super) fn single(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match (parts.len(), parts.pop()) {
        (1, Some(part)) => part,
        (_, Some(last)) => {
            parts.push(last);
            many(parts)
        }
        _ => many(parts),
    }
}

/// The constant of that name, or a variable.
pub(super) fn named(name: &str) -> Expr {
    match name {
        "pi" => Expr::Constant(Constant::Pi),
        "e" => Expr::Constant(Constant::E),
        "i" => Expr::Constant(Constant::I),
        name => Expr::Variable(name.to_owned()),
    }
}
