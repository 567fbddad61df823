//! Reads quantities: formulas with a unit, a currency or a time of day.

use super::formula::formula;
use super::reader::Reader;
use super::token::{Bracket, Token};
use super::tree::{Answer, Clock, Expr};
use super::unit::{self, Unit};
use super::words;

impl Reader<'_> {
    pub(super) fn words(&self, start: usize, end: usize) -> Option<Answer> {
        let tokens = &self.source.tokens[start..end];
        let mut text = String::new();
        for token in tokens {
            let Token::Word(word) = token else { return None };
            text.push_str(word);
            text.push(' ');
        }
        Some(words::answer(&text))
    }

    /// A formula, with a unit behind it or a currency before it.
    pub(super) fn quantity(&self, start: usize, end: usize) -> Option<Answer> {
        let source = self.source;
        let tokens = source.tokens;
        if let Some(Token::Word(letter)) = tokens.get(start)
            && letter.len() == 1
            && start + 1 < end
        {
            // A choice with its value, as in `\text{(D)} 12`.
            let value = self.quantity(start + 1, end).filter(|value| !matches!(value, Answer::Choice(..)))?;
            return Some(Answer::Choice(letter.clone(), Box::new(value)));
        }
        let (from, mut unit, negative) = self.currency_before(start, end);
        let unit_start = self.unit_start(from, end);
        let multiplier = match tokens.get(unit_start) {
            Some(Token::Word(word)) if unit_start < end => unit::multiplier(word),
            _ => None,
        };
        let words_start = unit_start + usize::from(multiplier.is_some());
        let mut to = unit_start;
        if let Some((temperature, value_end)) = self.temperature(from, words_start, end) {
            (unit, to) = (Some(temperature), value_end);
        } else if words_start < end {
            // `\$50 \text{ USD}` names its currency twice.
            unit = unit::parse(&tokens[words_start..end], source.fuel)?.or(unit);
        }
        if unit.is_none()
            && to > from
            && let Some(Token::Mark(sign)) = tokens.get(to - 1)
            && let Some(money) = unit::currency(*sign, source.fuel)
        {
            (to, unit) = (to - 1, Some(money));
        }
        if to > from + 1
            && tokens[to - 1] == Token::Mark('*')
            && tokens[to - 2] != Token::Mark('^')
            && words_start < end
        {
            // `5 \cdot \text{m}`
            to -= 1;
        }
        let value = formula(source, from, to, 0)?;
        let value = if negative { Expr::Negative(Box::new(value)) } else { value };
        let value = match multiplier {
            Some(factor) => Expr::Product(vec![value, Expr::integer(factor)]),
            None => value,
        };
        Some(Answer::Value { value, unit })
    }

    /// A time of day: `3:45 PM`, or `15:45`, which may also be a ratio.
    pub(super) fn clock(&self, start: usize, end: usize) -> Option<Clock> {
        let tokens = self.source.tokens.get(start..end)?;
        let (tokens, half) = match tokens {
            [rest @ .., Token::Word(word)] => match word.to_lowercase().replace(['.', ' '], "").as_str() {
                "am" => (rest, Some(false)),
                "pm" => (rest, Some(true)),
                _ => return None,
            },
            tokens => (tokens, None),
        };
        let part = |token: &Token| match token {
            Token::Number(digits) if digits.len() <= 2 && !digits.contains('.') => {
                Some((digits.len(), digits.parse().ok()?))
            }
            _ => None,
        };
        let parts = match tokens {
            [hour, Token::Mark(':'), minute] => vec![part(hour)?, part(minute)?],
            [hour, Token::Mark(':'), minute, Token::Mark(':'), second] => {
                vec![part(hour)?, part(minute)?, part(second)?]
            }
            _ => return None,
        };
        let two_digits = parts[1..].iter().all(|(length, _)| *length == 2);
        let padded = parts[1..].iter().any(|(_, value)| *value < 10);
        two_digits.then(|| Clock { parts: parts.into_iter().map(|(_, value)| value).collect(), half, padded })
    }

    /// The currency that stands before the number, where the number starts, and whether a minus stands before both.
    fn currency_before(&self, start: usize, end: usize) -> (usize, Option<Unit>, bool) {
        let tokens = self.source.tokens;
        let money = |at: usize| match tokens.get(at).filter(|_| at < end)? {
            Token::Mark(sign) => Some((unit::currency(*sign, self.source.fuel)?, at + 1)),
            Token::Word(word) if word == "US" && tokens.get(at + 1) == Some(&Token::Mark('$')) => {
                Some((unit::currency('$', self.source.fuel)?, at + 2))
            }
            Token::Word(word) => Some((unit::currency_word(word, self.source.fuel)?, at + 1)),
            _ => None,
        };
        if tokens.get(start) == Some(&Token::Mark('-'))
            && let Some((unit, from)) = money(start + 1)
        {
            return (from, Some(unit), true);
        }
        match money(start) {
            Some((unit, from)) => (from, Some(unit), false),
            None => (start, None, false),
        }
    }

    /// Where the unit starts; `end` where there is none.
    fn unit_start(&self, start: usize, end: usize) -> usize {
        let tokens = self.source.tokens;
        let is_word = |at: usize| at < end && matches!(tokens.get(at), Some(Token::Word(_)));
        let starts = |at: usize| match &tokens[at] {
            Token::Word(_) => at == start || tokens[at - 1] != Token::Mark('^'),
            Token::Name(name) if name == "mu" => is_word(at + 1),
            Token::Name(name) if name == "Omega" => at > start && at + 1 == end,
            Token::Command(name) if name == "frac" => {
                at > start && tokens.get(at + 1) == Some(&Token::Open(Bracket::Group)) && is_word(at + 2)
            }
            Token::Open(Bracket::Round | Bracket::Group) => {
                at > start && tokens[at - 1] != Token::Mark('^') && is_word(at + 1)
            }
            _ => false,
        };
        let mut at = start;
        while at < end {
            if starts(at) {
                return at;
            }
            at = if matches!(tokens[at], Token::Open(_)) { self.source.partner[at] } else { at } + 1;
        }
        end
    }

    /// `^\circ C` at the end: the scale, and where the number ends.
    fn temperature(&self, start: usize, words_start: usize, end: usize) -> Option<(Unit, usize)> {
        let Token::Word(letter) = self.source.tokens.get(words_start)? else { return None };
        if words_start + 1 != end {
            return None;
        }
        let number = match &self.source.tokens[start..words_start] {
            [
                number @ ..,
                Token::Mark('^'),
                Token::Open(Bracket::Group),
                Token::Mark('°'),
                Token::Close(Bracket::Group),
            ]
            | [number @ .., Token::Mark('^'), Token::Mark('°')]
            | [number @ .., Token::Mark('°')] => number,
            _ => return None,
        };
        Some((Unit::temperature(letter)?, start + number.len()))
    }
}
