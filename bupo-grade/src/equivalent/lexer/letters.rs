//! Runs of letters: functions, units, words, variables.

use super::cursor::Lexer;
use crate::equivalent::number::Function;
use crate::equivalent::symbol;
use crate::equivalent::token::Token;
use crate::equivalent::unit;

impl Lexer<'_> {
    pub(super) fn letters(&mut self) {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let run = &rest[..length];
        // `3:45 p.m.`
        if let [.., Token::Number(_), Token::Mark(':'), Token::Number(_)] = self.out.tokens.as_slice()
            && let Some(half) = ["a.m.", "p.m.", "am", "pm"].iter().find(|half| starts_with(rest, half))
        {
            self.at += half.len();
            return self.push(Token::Word(half.replace('.', "")));
        }
        self.at += length;
        // `20^\circ C`
        if matches!(run, "C" | "F") && self.after_degree() {
            return self.push(Token::Word(run.to_owned()));
        }
        let before_ohm = unit::is_prefix(run) && self.rest().trim_start().starts_with("\\Omega");
        if self.units && (unit::is_known(run) || before_ohm) {
            return self.push(Token::Word(run.to_owned()));
        }
        if run == "in" && self.is_inch() {
            return self.push(Token::Word(run.to_owned()));
        }
        if let Some(token) = symbol::plain_word(run) {
            return self.push(token);
        }
        if unit::is_currency_code(run) {
            return self.push(Token::Word(run.to_owned()));
        }
        let quantity = self.after_number() || matches!(self.out.tokens.last(), Some(Token::Word(_)));
        if quantity
            && (length >= 2 && (unit::is_plainly_known(run) || unit::multiplier(run).is_some())
                || length >= 4 && self.space
                || run == "per")
        {
            self.units |= is_unit_text(rest);
            return self.push(Token::Word(run.to_owned()));
        }
        let micro = matches!(self.out.tokens.as_slice(), [.., Token::Number(_), Token::Name(mu)] if mu == "mu");
        if (micro || quantity && self.space) && is_unit_text(rest) {
            self.out.ambiguous.letters_are_units = true;
            if self.reading.letters_are_units {
                self.units = true;
                return self.push(Token::Word(run.to_owned()));
            }
        }
        // `lnx` and `sinx`
        if length > 2
            && let Some(function) = Function::named(&run[..length - 1])
        {
            self.push(Token::Function(function));
            return self.push(Token::Name(run[length - 1..].to_owned()));
        }
        for letter in run.chars() {
            self.push(Token::Name(letter.to_string()));
        }
    }

    /// Whether `in`, which was just read, is the unit and not the relation: `60 in`, `60 in^2`.
    pub(super) fn is_inch(&self) -> bool {
        let after = self.rest().trim_start_matches([' ', '~', '.', '}', '$']);
        self.after_value()
            && (after.is_empty() || after.starts_with(['^', '/', ',', ')', ';']) || after.starts_with("\\cdot"))
    }
}

/// Whether `text` is nothing but units: `m/s^2`, `kg m`; a letter alone only where it is hardly ever a variable.
fn is_unit_text(text: &str) -> bool {
    let text = text.trim_end_matches(['.', ' ', '$']);
    let other =
        |c: char| !(c.is_ascii_alphanumeric() || matches!(c, ' ' | '/' | '^' | '{' | '}' | '-' | '*' | '·' | '~'));
    if text.len() > 40 || text.contains(other) {
        return false;
    }
    let units: Vec<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|unit| !unit.is_empty()).collect();
    let in_power =
        |(at, c): (usize, char)| !c.is_ascii_digit() || text[..at].trim_end_matches(['-', '{']).ends_with('^');
    let telling = match units.as_slice() {
        [unit] => unit.len() > 1 || matches!(*unit, "m" | "g" | "s" | "L"),
        units => {
            text.contains('/') || text.contains("^-") || text.contains("^{-") || units.iter().any(|unit| unit.len() > 1)
        }
    };
    telling && units.iter().all(|unit| *unit == "per" || unit::is_known(unit)) && text.char_indices().all(in_power)
}

/// Whether `text` starts with `word`, in either case and with nothing alphabetic behind it.
fn starts_with(text: &str, word: &str) -> bool {
    let start = text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    start && !text[word.len()..].starts_with(|c: char| c.is_ascii_alphabetic())
}
