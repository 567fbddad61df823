//! Reads units as they are written behind a number: `\text{m}\cdot\text{s}^{-1}`, `\frac{\text{km}}{\text{h}}`.

use super::measure::{Unit, parse_word};
use super::table;
use crate::equivalent::number::Fuel;
use crate::equivalent::token::{Bracket, Token};

/// The unit that `tokens` are; the inner `None` is a word without a meaning of its own, such as `units`.
pub(in crate::equivalent) fn parse(tokens: &[Token], fuel: &Fuel) -> Option<Option<Unit>> {
    let mut pieces = Vec::new();
    pieces_of(tokens, &mut pieces, 0)?;
    if pieces.len() > MOST_PIECES {
        return None;
    }
    let mut reader = Reader { pieces: &pieces, at: 0, fuel, depth: 0 };
    let unit = reader.product()?;
    (reader.at == pieces.len()).then_some((!unit.bases.is_empty() || !unit.size.is_one()).then_some(unit))
}

const MOST_PIECES: usize = 60;
const MOST_DEPTH: usize = 8;

#[derive(Debug, PartialEq)]
enum Piece {
    Word(String),
    Times,
    Over,
    Power(i64),
    Open,
    Close,
}

/// Words that say more than what is counted.
const CLAUSES: [&str; 20] = [
    "or", "and", "more", "less", "fewer", "than", "at", "not", "least", "most", "mod", "if", "for", "when", "where",
    "plus", "minus", "times", "but", "except",
];

fn pieces_of(tokens: &[Token], pieces: &mut Vec<Piece>, depth: usize) -> Option<()> {
    if depth > MOST_DEPTH {
        return None;
    }
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(text) => words_of(text, pieces)?,
            Token::Name(name) if name == "mu" => {
                let Some(Token::Word(unit) | Token::Name(unit)) = tokens.get(at + 1) else { return None };
                pieces.push(Piece::Word(format!("μ{unit}")));
                at += 1;
            }
            Token::Name(name) if name == "Omega" => match pieces.last_mut() {
                Some(Piece::Word(prefix)) if table::is_prefix(prefix) => prefix.push('Ω'),
                _ => pieces.push(Piece::Word("Ω".to_owned())),
            },
            Token::Name(name) if name.len() == 1 && !pieces.is_empty() => pieces.push(Piece::Word(name.clone())),
            Token::Mark('*') => pieces.push(Piece::Times),
            Token::Mark('/') => pieces.push(Piece::Over),
            Token::Open(Bracket::Group | Bracket::Round) => pieces.push(Piece::Open),
            Token::Close(Bracket::Group | Bracket::Round) => pieces.push(Piece::Close),
            Token::Command(name) if name == "frac" => {
                let (above, rest) = group(&tokens[at + 1..])?;
                let (below, rest) = group(rest)?;
                pieces.push(Piece::Open);
                pieces_of(above, pieces, depth + 1)?;
                pieces.extend([Piece::Close, Piece::Over, Piece::Open]);
                pieces_of(below, pieces, depth + 1)?;
                pieces.push(Piece::Close);
                at = tokens.len() - rest.len();
                continue;
            }
            Token::Mark('^') => {
                let (power, length) = power(&tokens[at + 1..])?;
                pieces.push(Piece::Power(power));
                at += length;
            }
            _ => return None,
        }
        at += 1;
    }
    Some(())
}

/// The content of the group at the start, and what follows it.
fn group(tokens: &[Token]) -> Option<(&[Token], &[Token])> {
    let mut open = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Open(Bracket::Group) => open += 1,
            Token::Close(Bracket::Group) => open = open.checked_sub(1)?,
            _ => {}
        }
        if open == 0 {
            return (at > 0).then(|| (&tokens[1..at], &tokens[at + 1..]));
        }
    }
    None
}

/// A whole power after `^`, and how many tokens it takes.
fn power(tokens: &[Token]) -> Option<(i64, usize)> {
    let (inside, length) = match tokens.first()? {
        Token::Open(Bracket::Group) => {
            let inside = group(tokens)?.0;
            (inside, inside.len() + 2)
        }
        Token::Mark('-') => (tokens.get(..2)?, 2),
        _ => (&tokens[..1], 1),
    };
    let power = match inside {
        [Token::Number(digits)] => digits.parse::<i64>().ok()?,
        [Token::Mark('-'), Token::Number(digits)] => -digits.parse::<i64>().ok()?,
        _ => return None,
    };
    Some((power, length))
}

/// The pieces of the words of a text: `kg m`, `miles per hour`, `foot-pounds`.
fn words_of(text: &str, pieces: &mut Vec<Piece>) -> Option<()> {
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_alphabetic() || c == '$' || c == '¢' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            let word = std::mem::take(&mut word);
            if CLAUSES.contains(&word.to_lowercase().as_str()) {
                return None;
            }
            pieces.push(if word == "per" { Piece::Over } else { Piece::Word(word) });
        }
        match c {
            '/' => pieces.push(Piece::Over),
            '(' => pieces.push(Piece::Open),
            ')' => pieces.push(Piece::Close),
            _ => {}
        }
    }
    Some(())
}

struct Reader<'a> {
    pieces: &'a [Piece],
    at: usize,
    fuel: &'a Fuel,
    depth: usize,
}

impl Reader<'_> {
    /// Units side by side. After a slash all that follow without a sign are below it: `J/kg K`.
    fn product(&mut self) -> Option<Unit> {
        let mut unit = Unit::one();
        let mut below = false;
        let mut next_power = 1;
        while let Some(piece) = self.pieces.get(self.at) {
            match piece {
                Piece::Close => break,
                Piece::Times => (self.at, below) = (self.at + 1, false),
                Piece::Over => (self.at, below) = (self.at + 1, true),
                Piece::Word(word) if matches!(word.to_lowercase().as_str(), "square" | "sq") => {
                    (self.at, next_power) = (self.at + 1, 2);
                }
                Piece::Word(word) if matches!(word.to_lowercase().as_str(), "cubic" | "cu") => {
                    (self.at, next_power) = (self.at + 1, 3);
                }
                Piece::Word(word) if table::PLAIN.contains(&word.as_str()) || is_article(word) => {
                    let powered = matches!(self.pieces.get(self.at + 1), Some(Piece::Power(_)));
                    self.at += 1 + usize::from(powered);
                }
                Piece::Word(_) | Piece::Open => {
                    let power = std::mem::replace(&mut next_power, 1);
                    let part = self.raised()?.raised(if below { -power } else { power }, self.fuel)?;
                    unit = unit.times(&part, self.fuel)?;
                }
                Piece::Power(_) => return None,
            }
        }
        Some(unit)
    }

    /// One unit or parenthesis with its power.
    fn raised(&mut self) -> Option<Unit> {
        let piece = self.pieces.get(self.at)?;
        self.at += 1;
        let (mut unit, mut word) = match piece {
            Piece::Word(word) => (parse_word(word, self.fuel)?, word.as_str()),
            _ if self.depth < MOST_DEPTH => {
                self.depth += 1;
                let inside = self.product()?;
                self.depth -= 1;
                if self.pieces.get(self.at) != Some(&Piece::Close) {
                    return None;
                }
                self.at += 1;
                (inside, "")
            }
            _ => return None,
        };
        loop {
            let power = match self.pieces.get(self.at) {
                Some(Piece::Power(power)) => *power,
                Some(Piece::Word(next)) if next == "squared" => 2,
                Some(Piece::Word(next)) if next == "cubed" => 3,
                _ => return Some(unit),
            };
            self.at += 1;
            unit = if word == "ms" && power < 0 {
                // In physics `m s^{-1}` is often set without the space.
                let (meter, second) = (parse_word("m", self.fuel)?, parse_word("s", self.fuel)?);
                meter.times(&second.raised(power, self.fuel)?, self.fuel)?
            } else {
                unit.raised(power, self.fuel)?
            };
            word = "";
        }
    }
}

/// Only in lower case: `A` is an ampere.
fn is_article(word: &str) -> bool {
    matches!(word, "of" | "the" | "a" | "an" | "each" | "un")
}
