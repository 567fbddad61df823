//! Splits an answer into tokens, dropping whatever only changes how it looks.

use super::number::Function;
use super::symbol;
use super::token::{Bracket, Relation, Token};
use super::unit;

/// How an ambiguous spelling is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// `1,234` is a list, not a number with a thousands separator.
    pub(super) commas_separate: bool,
    /// `2e3` is a power of ten, not a product with Euler's number.
    pub(super) powers_of_ten: bool,
}

#[derive(Debug)]
pub(super) struct Lexed {
    pub(super) tokens: Vec<Token>,
    /// For every token, whether a space stands before it.
    pub(super) spaced: Vec<bool>,
    /// Which choices of the reading made a difference.
    pub(super) ambiguous: Reading,
}

/// The tokens of `text`; `None` for what is not well formed.
pub(super) fn lex(text: &str, reading: Reading) -> Option<Lexed> {
    let mut lexer = Lexer {
        text,
        at: 0,
        reading,
        depth: 0,
        nesting: 0,
        space: false,
        out: Lexed { tokens: Vec::new(), spaced: Vec::new(), ambiguous: Reading::default() },
    };
    lexer.run()?;
    Some(lexer.out)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    reading: Reading,
    /// How many brackets that may hold a list are open.
    depth: usize,
    /// How many style commands the lexer is inside of.
    nesting: usize,
    space: bool,
    out: Lexed,
}

/// Style commands inside style commands, at most.
const MOST_NESTING: usize = 8;

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Option<()> {
        while let Some(next) = self.rest().chars().next() {
            match next {
                '0'..='9' => self.number()?,
                '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
                'a'..='z' | 'A'..='Z' => self.letters(),
                // The space of a trailing `\ ` was trimmed.
                '\\' if self.rest().len() == 1 => self.at += 1,
                '\\' => self.command()?,
                c if c.is_whitespace() || c == '~' || c == '$' => {
                    self.at += c.len_utf8();
                    self.space = true;
                }
                c => {
                    self.at += c.len_utf8();
                    self.character(c);
                }
            }
        }
        Some(())
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, token: Token) {
        // `&` before a relation only aligns it.
        if matches!(token, Token::Relation(_)) && self.out.tokens.last() == Some(&Token::Mark('&')) {
            self.out.tokens.pop();
            self.out.spaced.pop();
        }
        match token {
            Token::Open(Bracket::Round | Bracket::Square | Bracket::Curly | Bracket::Angle) => self.depth += 1,
            Token::Close(Bracket::Round | Bracket::Square | Bracket::Curly | Bracket::Angle) => {
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        self.out.tokens.push(token);
        self.out.spaced.push(std::mem::take(&mut self.space));
    }

    fn after_number(&self) -> bool {
        matches!(self.out.tokens.last(), Some(Token::Number(_)))
    }

    fn after_degree(&self) -> bool {
        matches!(
            self.out.tokens.as_slice(),
            [.., Token::Mark('°')] | [.., Token::Mark('°'), Token::Close(Bracket::Group)]
        )
    }

    fn number(&mut self) -> Option<()> {
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
    fn thousands(&mut self, first: usize, number: &mut String) -> usize {
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

    fn letters(&mut self) {
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
        if let Some(token) = symbol::plain_word(run) {
            return self.push(token);
        }
        let quantity = self.after_number() || matches!(self.out.tokens.last(), Some(Token::Word(_)));
        if quantity
            && (length >= 2 && (unit::is_known(run) || unit::multiplier(run).is_some())
                || length >= 4 && self.space
                || run == "per")
        {
            return self.push(Token::Word(run.to_owned()));
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

    fn command(&mut self) -> Option<()> {
        let rest = &self.rest()[1..];
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        if length == 0 {
            let next = rest.chars().next()?;
            self.at += 1 + next.len_utf8();
            self.escaped(next);
            return Some(());
        }
        let name = &rest[..length];
        self.at += 1 + length;
        match name {
            "text" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "textnormal" | "mbox" | "hbox" | "emph"
            | "underline" => {
                let argument = self.argument()?;
                self.prose(argument)
            }
            "mathrm" | "operatorname" | "mathit" | "mathsf" | "rm" | "bf" | "it" => self.upright(name),
            "mathbf" | "boldsymbol" | "bm" | "pmb" | "vec" | "overrightarrow" | "mathop" | "mathstrut" | "boxed" => {
                let argument = self.argument()?;
                if argument.len() > 1 && argument.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                    self.push(Token::Word(argument.to_owned()));
                    return Some(());
                }
                self.inside(argument)
            }
            "mathbb" | "mathcal" | "mathfrak" | "mathscr" | "Bbb" | "hat" | "widehat" | "bar" | "tilde"
            | "widetilde" | "dot" | "ddot" | "overline" | "overparen" | "overset" | "underset" => self.decorated(name),
            "begin" | "end" => {
                let environment = self.argument()?.trim_end_matches('*').to_owned();
                if name == "begin" && environment == "array" {
                    self.argument()?;
                }
                let bracket = Bracket::Environment(environment);
                self.push(if name == "begin" { Token::Open(bracket) } else { Token::Close(bracket) });
                Some(())
            }
            "left" | "right" => {
                // `\left.` is a bracket that is not drawn.
                if self.rest().trim_start().starts_with('.') {
                    self.at = self.text.len() - self.rest().trim_start().len() + 1;
                }
                Some(())
            }
            "hspace" | "vspace" | "phantom" | "label" | "tag" | "color" | "textcolor" => self.argument().map(|_| ()),
            _ => {
                match symbol::command(name) {
                    Some(tokens) => tokens.into_iter().for_each(|token| self.push(token)),
                    None => self.push(Token::Command(name.to_owned())),
                }
                Some(())
            }
        }
    }

    /// What stands after a backslash that is no letter.
    fn escaped(&mut self, next: char) {
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

    fn character(&mut self, c: char) {
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
            c => Token::Mark(c),
        };
        self.push(token);
    }

    /// A run of small letters and digits above or below the line: `x²³` and `x₁₂`.
    fn small(&mut self, (place, first): (char, char)) {
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

    /// The next argument, without its braces.
    fn argument(&mut self) -> Option<&'a str> {
        let rest = self.rest().trim_start();
        self.at = self.text.len() - rest.len();
        if let Some(content) = rest.strip_prefix('{') {
            let mut open = 1usize;
            for (at, byte) in content.bytes().enumerate() {
                match byte {
                    b'{' => open += 1,
                    b'}' => open -= 1,
                    _ => {}
                }
                if open == 0 {
                    self.at += at + 2;
                    return Some(&content[..at]);
                }
            }
            return None;
        }
        let length = match rest.strip_prefix('\\') {
            Some(command) => 1 + command.bytes().take_while(u8::is_ascii_alphabetic).count().max(1),
            None => rest.chars().next()?.len_utf8(),
        };
        let argument = rest.get(..length)?;
        self.at += length;
        Some(argument)
    }

    /// Lexes an argument in place.
    fn inside(&mut self, argument: &'a str) -> Option<()> {
        if self.nesting == MOST_NESTING {
            return None;
        }
        let (text, at) = (self.text, self.at);
        (self.text, self.at) = (argument, 0);
        self.nesting += 1;
        let done = self.run();
        self.nesting -= 1;
        (self.text, self.at) = (text, at);
        done
    }

    /// The content of `\text{...}`: words, except where it is only a number or a formula.
    fn prose(&mut self, content: &'a str) -> Option<()> {
        let trimmed = content.trim().trim_end_matches(['.', ',']);
        if trimmed.is_empty() {
            self.space = true;
            return Some(());
        }
        let word = |c: char| c.is_ascii_alphabetic() || matches!(c, ' ' | '-' | '/' | '.' | '\'' | ',' | '(' | ')');
        let end = trimmed.find(|c| !word(c)).unwrap_or(trimmed.len());
        let letters = trimmed[..end].bytes().any(|byte| byte.is_ascii_alphabetic());
        let opens_with_letter = trimmed.starts_with(|c: char| c.is_ascii_alphabetic() || c == '(');
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
        self.push(symbol::separator(bare).unwrap_or_else(|| Token::Word(bare.to_owned())));
        if end == trimmed.len() { Some(()) } else { self.inside(&trimmed[end..]) }
    }

    /// `\mathrm{...}`: a function, a unit, a word or a letter.
    fn upright(&mut self, name: &str) -> Option<()> {
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
            let unit = |head: &&str| self.after_number() && head.split(['/', ' ', '~']).any(unit::is_known);
            let head = content.split('^').next().filter(unit).unwrap_or(content);
            let words = head.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'/' | b'~'));
            return if words { self.prose(content) } else { self.inside(content) };
        } else if content.len() == 1 {
            let quantity = self.after_number() || self.after_degree();
            let unit = name == "mathrm" && quantity && !matches!(content, "e" | "i");
            self.push(if unit { Token::Word(content.to_owned()) } else { Token::Name(content.to_owned()) });
        } else if name == "operatorname" {
            self.push(Token::Operator(content.to_owned()));
        } else if !content.is_empty() {
            self.push(symbol::separator(content).unwrap_or_else(|| Token::Word(content.to_owned())));
        }
        Some(())
    }

    /// `\mathbb{R}`, `\hat{y}`: a name of its own. A bar over digits after a decimal point repeats them.
    fn decorated(&mut self, name: &str) -> Option<()> {
        let argument = self.argument()?.trim();
        let digits = argument.bytes().all(|byte| byte.is_ascii_digit());
        if matches!(name, "overline" | "bar" | "dot") && self.after_number() && digits && !self.space {
            self.push(Token::Repeating(argument.to_owned()));
            return Some(());
        }
        let style = match name {
            "mathbb" | "Bbb" => "bb",
            "widehat" => "hat",
            "widetilde" => "tilde",
            "overline" | "bar" => "bar",
            name => name,
        };
        let content: String = argument.split_whitespace().collect();
        let name = match (style, content.as_str()) {
            // The order of growth is written with either.
            ("mathcal", "O") => content,
            _ => format!("{style} {content}"),
        };
        self.push(Token::Name(name));
        Some(())
    }
}

/// Whether `text` starts with `word`, in either case and with nothing alphabetic behind it.
fn starts_with(text: &str, word: &str) -> bool {
    let start = text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    start && !text[word.len()..].starts_with(|c: char| c.is_ascii_alphabetic())
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
