//! Single characters: brackets, signs, small letters above and below the line.

use super::cursor::Lexer;
use crate::equivalent::symbol;
use crate::equivalent::token::{Bracket, Relation, Token};

impl Lexer<'_> {
    pub(super) fn character(&mut self, c: char) {
        if let Some(first) = symbol::small(c) {
            return self.small(first);
        }
        if let Some(tokens) = symbol::character(c) {
            return tokens.into_iter().for_each(|token| self.push(token));
        }
        let followed_by = |lexer: &mut Self, next: char| {
            let follows = lexer.rest().starts_with(next);
            lexer.at += usize::from(follows);
            follows
        };
        let token = match c {
            '(' => Token::Open(Bracket::Round),
            ')' => Token::Close(Bracket::Round),
            '[' => Token::Open(Bracket::Square),
            ']' => Token::Close(Bracket::Square),
            '{' => Token::Open(Bracket::Group),
            '}' => Token::Close(Bracket::Group),
            '=' => {
                followed_by(self, '=');
                Token::Relation(Relation::Equal)
            }
            '<' if followed_by(self, '=') => Token::Relation(Relation::AtMost),
            '<' => Token::Relation(Relation::Less),
            '>' if followed_by(self, '=') => Token::Relation(Relation::AtLeast),
            '>' => Token::Relation(Relation::Greater),
            '!' if self.rest().starts_with('=') && !self.rest().starts_with("==") => {
                self.at += 1;
                Token::Relation(Relation::NotEqual)
            }
            '*' if followed_by(self, '*') => Token::Mark('^'),
            '.' if self.rest().starts_with("..") => {
                self.at += self.rest().len() - self.rest().trim_start_matches('.').len();
                Token::Mark('…')
            }
            c => Token::Mark(c),
        };
        self.push(token);
    }

    /// A run of small letters and digits above or below the line: `x²³` and `x₁₂`.
    pub(super) fn small(&mut self, (place, first): (char, char)) {
        self.push(Token::Mark(place));
        self.push(Token::Open(Bracket::Group));
        let mut run = String::from(first);
        while let Some(c) = self.rest().chars().next()
            && let Some((_, next)) = symbol::small(c).filter(|(other, _)| *other == place)
        {
            self.at += c.len_utf8();
            run.push(next);
        }
        let mut digits = String::new();
        for c in run.chars().chain(['}']) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            if !digits.is_empty() {
                self.push(Token::Number(std::mem::take(&mut digits)));
            }
            match c {
                '}' => self.push(Token::Close(Bracket::Group)),
                '+' | '-' => self.push(Token::Mark(c)),
                c => self.push(Token::Name(c.to_string())),
            }
        }
    }

    /// What stands after a backslash that is no letter.
    pub(super) fn escaped(&mut self, next: char) {
        match next {
            '{' => self.push(Token::Open(Bracket::Curly)),
            '}' => self.push(Token::Close(Bracket::Curly)),
            '%' => self.push(Token::Mark('%')),
            '$' => self.push(Token::Mark('$')),
            '|' => self.push(Token::Mark('‖')),
            '\\' => {
                // `\\[2pt]` asks for space between rows.
                let rest = self.rest();
                if let Some(length) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
                    && length.0.len() < 12
                    && ["pt", "em", "ex", "mm", "cm", "in"].iter().any(|unit| length.0.ends_with(unit))
                {
                    self.at += length.0.len() + 2;
                }
                self.push(Token::Mark('\n'))
            }
            '_' | '#' | '&' => self.push(Token::Mark(next)),
            // Spaces, and the dollars of another notation.
            _ => self.space = true,
        }
    }
}
