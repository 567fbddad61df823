//! Text inside of formulas: `\text{...}`, `\mathrm{...}`.

use super::cursor::Lexer;
use crate::equivalent::number::Function;
use crate::equivalent::symbol;
use crate::equivalent::token::{Bracket, Token};
use crate::equivalent::unit;

impl<'a> Lexer<'a> {
    /// The content of `\text{...}`: words, except where it is only a number or a formula.
    pub(super) fn prose(&mut self, content: &'a str) -> Option<()> {
        let trimmed = content.trim().trim_end_matches(['.', ',']);
        if trimmed.is_empty() {
            self.space = true;
            return Some(());
        }
        if let Some(rest) = trimmed.strip_prefix('(').filter(|rest| !rest.contains(['(', ')'])) {
            self.push(Token::Open(Bracket::Round));
            return self.prose(rest);
        }
        let word = |c: char| {
            c.is_ascii_alphabetic() || matches!(c, 'μ' | 'Ω' | ' ' | '-' | '/' | '.' | '\'' | ',' | '(' | ')')
        };
        let end = trimmed.find(|c| !word(c)).unwrap_or(trimmed.len());
        let letters = trimmed[..end].chars().any(char::is_alphabetic) && !trimmed.starts_with("(or ");
        let opens_with_letter = trimmed.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '(' | 'μ' | 'Ω'));
        if !letters || !opens_with_letter {
            return self.inside(trimmed);
        }
        if let Some(choices) = choices(&trimmed[..end])
            && end == trimmed.len()
        {
            for choice in choices {
                self.push(Token::Word(choice.to_owned()));
                self.push(Token::Mark(','));
            }
            self.out.tokens.pop();
            self.out.spaced.pop();
            return Some(());
        }
        let bare = trimmed[..end].trim();
        let bare = bare.strip_prefix('(').and_then(|bare| bare.strip_suffix(')')).unwrap_or(bare);
        let inch = bare == "in" && end == trimmed.len() && self.is_inch();
        let separator = if inch { None } else { symbol::separator(bare) };
        let unit = self.after_value() && bare.split([' ', '/', '-', '.']).any(unit::is_known);
        self.push(separator.unwrap_or_else(|| Token::Word(bare.to_owned())));
        if end == trimmed.len() { Some(()) } else { self.inside_unit(&trimmed[end..], unit) }
    }

    /// `\mathrm{...}`: a function, a unit, a word or a letter.
    pub(super) fn upright(&mut self, name: &str) -> Option<()> {
        if !self.rest().trim_start().starts_with('{') {
            return Some(());
        }
        let mut content = self.argument()?.trim();
        while let Some(rest) = ["\\ ", "\\,", "\\;", "~"].iter().find_map(|space| content.strip_prefix(space)) {
            content = rest.trim();
        }
        if let Some(function) = Function::named(content) {
            self.push(Token::Function(function));
        } else if !content.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            // `\mathrm{m/s^2}`
            let unit = |head: &&str| self.after_value() && head.split(['/', ' ', '~']).any(unit::is_known);
            let head = content.split('^').next().filter(unit).unwrap_or(content);
            let words = head.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'/' | b'~'));
            let unit = self.after_value();
            return if words { self.prose(content) } else { self.inside_unit(content, unit) };
        } else if content.len() == 1 {
            let quantity = self.after_value() || self.in_unit_fraction() || (self.units && unit::is_known(content));
            let unit = matches!(name, "mathrm" | "rm" | "mathsf") && quantity && !matches!(content, "e" | "i");
            self.push(if unit { Token::Word(content.to_owned()) } else { Token::Name(content.to_owned()) });
        } else if name == "operatorname" {
            self.push(Token::Operator(content.to_owned()));
        } else if !content.is_empty() {
            let separator = if content == "in" && self.is_inch() { None } else { symbol::separator(content) };
            self.push(separator.unwrap_or_else(|| Token::Word(content.to_owned())));
        }
        Some(())
    }

    /// Whether a fraction has just begun behind a number: `5\,\frac{\mathrm{m}}{\mathrm{s}}`.
    fn in_unit_fraction(&self) -> bool {
        match self.out.tokens.as_slice() {
            [.., Token::Number(_), Token::Command(name), Token::Open(Bracket::Group)] => name == "frac",
            _ => false,
        }
    }

    /// Lexes an argument in place, with letters that name units as units.
    fn inside_unit(&mut self, argument: &'a str, units: bool) -> Option<()> {
        let before = self.units;
        self.units |= units;
        let done = self.inside(argument);
        self.units = before;
        done
    }
}

/// The letters of `A, B and (D)`, where there are several and nothing else.
fn choices(text: &str) -> Option<Vec<&str>> {
    let parts = text.split(',').flat_map(|part| part.split(" and ")).flat_map(|part| part.split(" or "));
    let mut letters = Vec::new();
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let part = part.strip_prefix("and ").unwrap_or(part).trim();
        let letter = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')).unwrap_or(part);
        let one = letter.len() == 1 && letter.bytes().all(|byte| byte.is_ascii_uppercase());
        letters.push(one.then_some(letter)?);
    }
    (letters.len() > 1).then_some(letters)
}
