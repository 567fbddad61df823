//! An answer as it is written, and what it may mean.

use super::lexer::{Lexed, Reading};
use super::number::Fuel;
use super::token::{Bracket, Token};
use super::tree::Answer;
use super::{answer, choice, opaque, words};

pub(super) struct Written<'a> {
    text: &'a str,
    lexed: Option<Lexed>,
}

impl<'a> Written<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, lexed: answer::tokens(text, Reading::default()) }
    }

    /// Whether both are the same but for spaces, punctuation, letter case in words and braces around single tokens.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        match (&self.lexed, &other.lexed) {
            (Some(mine), Some(theirs)) => !mine.tokens.is_empty() && bare(&mine.tokens) == bare(&theirs.tokens),
            (None, None) => self.text.split_whitespace().eq(other.text.split_whitespace()),
            _ => false,
        }
    }

    /// What the answer may mean beside `other`.
    pub(super) fn readings(&self, other: &Self, fuel: &Fuel) -> Vec<Answer> {
        if let Some(code) = opaque::code(self.text) {
            return vec![code];
        }
        if let Some((letter, rest)) = choice::with_value(self.text) {
            let values = Written::new(rest).readings(other, fuel);
            return values.into_iter().map(|value| Answer::Choice(letter.to_owned(), Box::new(value))).collect();
        }
        if let Some(prose) = words::prose(self.text) {
            return vec![prose];
        }
        let Some(lexed) = &self.lexed else { return Vec::new() };
        let mut readings: Vec<Answer> = answer::read(lexed, fuel).into_iter().collect();
        let mut also = |reading: Reading| {
            readings.extend(answer::tokens(self.text, reading).and_then(|lexed| answer::read(&lexed, fuel)));
        };
        // `250,500` is a number, unless the other side is plainly a list.
        if lexed.ambiguous.commas_separate && other.is_plain_list() {
            also(Reading { commas_separate: true, ..Reading::default() });
        }
        if lexed.ambiguous.powers_of_ten {
            also(Reading { powers_of_ten: true, ..Reading::default() });
        }
        if lexed.ambiguous.letters_are_units {
            also(Reading { letters_are_units: true, ..Reading::default() });
        }
        readings
    }

    /// Whether no comma can be a thousands separator: the list stands in brackets, or a space follows every comma.
    fn is_plain_list(&self) -> bool {
        let Some(Lexed { tokens, spaced, ambiguous }) = &self.lexed else { return false };
        if ambiguous.commas_separate {
            return false;
        }
        let bracket = |bracket: &Bracket| matches!(bracket, Bracket::Round | Bracket::Square | Bracket::Curly);
        if matches!(tokens.first(), Some(Token::Open(open)) if bracket(open)) {
            return true;
        }
        let separates = |token: &Token| matches!(token, Token::Mark(',' | ';')) || is_conjunction(token);
        let mut separators = (0..tokens.len()).filter(|at| separates(&tokens[*at])).peekable();
        let spacious = |at: usize| is_conjunction(&tokens[at]) || spaced.get(at + 1) == Some(&true);
        separators.peek().is_some() && separators.all(spacious)
    }
}

fn is_conjunction(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word == "and" || word == "or")
}

/// The tokens without braces around single ones. In an answer of words alone, or in long words, case does not count.
fn bare(tokens: &[Token]) -> Vec<Token> {
    let prose = tokens.iter().all(|token| matches!(token, Token::Word(_) | Token::Mark(_)));
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Word(word) if prose || word.len() > 3 => out.push(Token::Word(word.to_lowercase().replace('.', ""))),
            Token::Word(word) => out.push(Token::Word(word.replace('.', ""))),
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
