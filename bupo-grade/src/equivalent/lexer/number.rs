//! Numbers: digits, thousands separators, decimal points, powers of ten.

use super::cursor::Lexer;
use crate::equivalent::token::Token;

impl Lexer<'_> {
    pub(super) fn number(&mut self) -> Option<()> {
        if self.out.tokens.last().is_some_and(Token::takes_characters) {
            // `\frac12` has two arguments of one character; `\frac.5` has a point for one.
            if self.rest().starts_with('.') {
                self.at += 1;
                self.push(Token::Mark('.'));
                return Some(());
            }
            for _ in 0..2 {
                let Some(digit) = self.rest().chars().next().filter(char::is_ascii_digit) else { break };
                self.at += 1;
                self.push(Token::Number(digit.to_string()));
            }
            return Some(());
        }
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = digits(0);
        let mut number = self.rest()[..end].to_owned();
        if (1..=3).contains(&end) && bytes[0] != b'0' {
            end = self.thousands(end, &mut number);
        }
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            let fraction = 1 + digits(end + 1);
            number.push_str(&self.rest()[end..end + fraction]);
            end += fraction;
        } else if bytes.get(end) == Some(&b'.')
            && ["\\overline", "\\bar", "\\dot"].iter().any(|bar| self.rest()[end + 1..].starts_with(bar))
        {
            number.push('.');
            end += 1;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let power = digits((end + 1 + sign).min(bytes.len()));
            if (1..=4).contains(&power) {
                self.out.ambiguous.powers_of_ten = true;
                if self.reading.powers_of_ten {
                    number.push_str(&self.rest()[end..end + 1 + sign + power]);
                    end += 1 + sign + power;
                }
            }
        }
        self.at += end;
        self.push(Token::Number(number));
        Some(())
    }

    /// Reads groups of three digits after a separator; answers where they end.
    pub(super) fn thousands(&mut self, first: usize, number: &mut String) -> usize {
        const SEPARATORS: [&str; 13] =
            ["{,}", "\\!,\\!", ",\\! ", ",\\!", ",\\,", ",", "\\,", "\\;", "\\:", "\\ ", "~", " ", "\u{202f}"];
        let rest = self.rest();
        let (mut end, mut groups, mut comma, mut padded) = (first, String::new(), false, false);
        while let Some(separator) = SEPARATORS.iter().find(|separator| rest[end..].starts_with(**separator)) {
            let start = end + separator.len();
            let group = rest.as_bytes()[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if group != 3 {
                break;
            }
            comma |= *separator == ",";
            padded |= rest.as_bytes()[start] == b'0';
            groups.push_str(&rest[start..start + 3]);
            end = start + 3;
        }
        // A part of a list is not written `045`, so such a comma is inside a number.
        if comma && !padded {
            self.out.ambiguous.commas_separate |= self.depth == 0;
            if self.depth > 0 || self.reading.commas_separate {
                return first;
            }
        }
        number.push_str(&groups);
        end
    }
}
