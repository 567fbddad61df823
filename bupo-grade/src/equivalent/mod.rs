//! Mathematical equivalence of answers.

mod answer;
mod compare;
mod evaluate;
mod factor;
mod formula;
mod inequality;
mod lexer;
mod number;
mod region;
mod scalar;
mod signs;
mod statement;
mod symbol;
mod token;
mod tree;
mod unit;
mod words;

use std::borrow::Cow;

use crate::boxed;
use crate::item::Graded;
use lexer::Reading;
use number::Fuel;
use token::{Bracket, Token};
use tree::Answer;

/// Longer answers are compared as written.
const MOST_BYTES: usize = 4000;
/// The work that one comparison may take.
const WORK: u64 = 8_000_000;

/// Grades by mathematics: 1 when the response's answer and `answer` are the same, however they are written.
///
/// The answer is the last `\boxed{...}`; without a box, what follows `the answer is`, else the last formula, else the last
/// number. A response that ends inside of its last box has no answer.
pub fn equivalent(response: &str, answer: &str) -> Graded {
    let extracted = boxed::final_answer(response);
    Graded::new(extracted.is_some_and(|given| same_text(given, boxed::unboxed(answer).trim())), extracted)
}

fn same_text(given: &str, answer: &str) -> bool {
    let (given, answer) = (&*half_width(given), &*half_width(answer));
    if given == answer {
        return true;
    }
    if given.len().max(answer.len()) > MOST_BYTES {
        return without_spaces(given).eq(without_spaces(answer));
    }
    // In a fixed order, so that the verdict cannot depend on which one is the response.
    let (first, second) = if given <= answer { (given, answer) } else { (answer, given) };
    let (first, second) = (Written::new(first), Written::new(second));
    if first.looks_like(&second) {
        return true;
    }
    let fuel = Fuel::new(WORK);
    let (mine, theirs) = (first.readings(&fuel), second.readings(&fuel));
    mine.iter().any(|mine| theirs.iter().any(|theirs| compare::same(mine, theirs, &fuel)))
}

/// The text with full-width characters, as East Asian keyboards write them, in their usual width.
fn half_width(text: &str) -> Cow<'_, str> {
    const WIDE: std::ops::RangeInclusive<char> = '！'..='～';
    if !text.contains(|c| WIDE.contains(&c)) {
        return Cow::Borrowed(text);
    }
    let narrow = |c: char| if WIDE.contains(&c) { char::from_u32(c as u32 - 0xfee0).unwrap_or(c) } else { c };
    Cow::Owned(text.chars().map(narrow).collect())
}

fn without_spaces(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !c.is_whitespace())
}

/// An answer as it is written.
struct Written<'a> {
    text: &'a str,
    lexed: Option<lexer::Lexed>,
}

impl<'a> Written<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, lexed: answer::tokens(text, Reading::default()) }
    }

    /// Whether both are the same but for spaces, punctuation, letter case in words and braces around single tokens.
    fn looks_like(&self, other: &Self) -> bool {
        match (&self.lexed, &other.lexed) {
            (Some(mine), Some(theirs)) => !mine.tokens.is_empty() && bare(&mine.tokens) == bare(&theirs.tokens),
            (None, None) => without_spaces(self.text).eq(without_spaces(other.text)),
            _ => false,
        }
    }

    /// What the answer may mean.
    fn readings(&self, fuel: &Fuel) -> Vec<Answer> {
        if let Some(prose) = words::prose(self.text) {
            return vec![prose];
        }
        let Some(lexed) = &self.lexed else { return Vec::new() };
        let mut readings: Vec<Answer> = answer::read(lexed, fuel).into_iter().collect();
        let mut also = |reading: Reading| {
            readings.extend(answer::tokens(self.text, reading).and_then(|lexed| answer::read(&lexed, fuel)));
        };
        if lexed.ambiguous.commas_separate {
            also(Reading { commas_separate: true, ..Reading::default() });
        }
        if lexed.ambiguous.powers_of_ten {
            also(Reading { powers_of_ten: true, ..Reading::default() });
        }
        readings
    }
}

/// The tokens without braces around single ones, with words lowered.
fn bare(tokens: &[Token]) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Word(word) => out.push(Token::Word(word.to_lowercase().replace('.', ""))),
            Token::Close(Bracket::Group)
                if out.len() >= 2
                    && out[out.len() - 2] == Token::Open(Bracket::Group)
                    && !matches!(&out[out.len() - 1], Token::Number(digits) if digits.len() > 1) =>
            {
                let last = out.pop();
                out.pop();
                out.extend(last);
            }
            token => out.push(token.clone()),
        }
    }
    out
}
