//! Reads whole answers: lists, sets, intervals, matrices, relations, quantities, words.

use super::formula::{Source, formula, partners};
use super::lexer::{Lexed, Reading, lex};
use super::number::Fuel;
use super::token::{Bracket, Relation, Token, key};
use super::tree::{Answer, Expr};
use super::unit;
use super::words;

/// Brackets of answers inside brackets of answers, at most.
const MOST_DEPTH: usize = 8;

/// The answer that `lexed` spells; `None` for what is not understood.
pub(super) fn read(lexed: &Lexed, fuel: &Fuel) -> Option<Answer> {
    let partner = partners(&lexed.tokens)?;
    let source = Source { tokens: &lexed.tokens, spaced: &lexed.spaced, partner: &partner, fuel };
    Reader { source }.answer(0, lexed.tokens.len(), 0)
}

/// The tokens of an answer, without the punctuation around it.
pub(super) fn tokens(text: &str, reading: Reading) -> Option<Lexed> {
    let mut lexed = lex(text, reading)?;
    let idle = |token: &Token| matches!(token, Token::Mark('.' | ',' | ';' | ':' | '\n'));
    while lexed.tokens.last().is_some_and(idle) {
        lexed.tokens.pop();
        lexed.spaced.pop();
    }
    let leading = lexed.tokens.iter().take_while(|token| idle(token)).count();
    lexed.tokens.drain(..leading);
    lexed.spaced.drain(..leading);
    Some(lexed)
}

struct Reader<'a> {
    source: Source<'a>,
}

impl<'a> Reader<'a> {
    /// One statement, or a list of them.
    fn answer(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        if depth > MOST_DEPTH {
            return None;
        }
        let joined = |token: &Token| match token {
            Token::Mark(',' | ';') => true,
            Token::Word(word) => word == "and" || word == "or",
            _ => false,
        };
        let mut parts = Vec::new();
        for (from, to) in self.split(start, end, joined) {
            if from < to {
                parts.push(self.statement(from, to, depth)?);
            }
        }
        let either = self.source.find(start, end, |token| *token == Token::Word("or".to_owned())).is_some();
        joined_by(parts, either)
    }

    /// Sides joined by relations.
    fn statement(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        let tokens = self.source.tokens;
        let mut sides = Vec::new();
        let mut relations = Vec::new();
        for (from, to) in self.split(start, end, |token| matches!(token, Token::Relation(_))) {
            if from > start
                && let Token::Relation(relation) = &tokens[from - 1]
            {
                relations.push(*relation);
            }
            if from < to {
                let side = self.side(from, to, depth);
                let named = || (from == start && to < end).then(|| self.operation(from, to))?;
                sides.push(side.or_else(named)?);
            } else if from > start {
                return None;
            }
        }
        // `= 5` and `\approx 5` say what `5` says.
        if matches!(relations.first(), Some(Relation::Equal | Relation::About)) && sides.len() == relations.len() {
            relations.remove(0);
        }
        match (sides.len(), relations.len()) {
            (1, 0) => sides.pop(),
            (sides_count, count) if sides_count == count + 1 => Some(Answer::Relation { sides, relations }),
            _ => None,
        }
    }

    /// A limit or an integral, which is not worked out: left of a relation it only names what stands right of it.
    fn operation(&self, start: usize, end: usize) -> Option<Answer> {
        let tokens = &self.source.tokens[start..end];
        let Token::Command(name) = tokens.first()? else { return None };
        matches!(name.as_str(), "lim" | "int" | "iint" | "iiint" | "oint").then(|| Answer::Words(key(tokens)))
    }

    /// What stands on one side of a relation.
    fn side(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        if depth > MOST_DEPTH || start >= end {
            return None;
        }
        let source = self.source;
        let united = self.split_at(start, end, |at| self.is_union(start, at, end));
        if united.len() > 1 {
            let parts = united.into_iter().map(|(from, to)| self.side(from, to, depth + 1));
            return parts.collect::<Option<_>>().map(Answer::Union);
        }
        let common = self.split(start, end, |token| *token == Token::Mark('∩'));
        if common.len() > 1 {
            let parts = common.into_iter().map(|(from, to)| self.side(from, to, depth + 1));
            return parts.collect::<Option<_>>().map(Answer::Intersection);
        }
        let without = source.find(start, end, |token| *token == Token::Mark('∖')).or_else(|| {
            // `\mathbb{R} - \{0\}`
            let set = source.find(start, end, |token| *token == Token::Open(Bracket::Curly))?;
            (set > start + 1 && source.tokens[set - 1] == Token::Mark('-')).then(|| set - 1)
        });
        if let Some(at) = without {
            let (left, right) = (self.side(start, at, depth + 1)?, self.side(at + 1, end, depth + 1)?);
            return Some(Answer::Without(Box::new(left), Box::new(right)));
        }
        let ratio = self.split(start, end, |token| *token == Token::Mark(':'));
        if ratio.len() > 1 {
            let parts = ratio.into_iter().map(|(from, to)| formula(source, from, to, 0));
            return parts.collect::<Option<_>>().map(Answer::Ratio);
        }
        if let Some(answer) = self.bracketed(start, end, depth) {
            return Some(answer);
        }
        self.words(start, end).or_else(|| self.quantity(start, end)).or_else(|| self.scaled_matrix(start, end))
    }

    /// `\cup`, or the letter `U` between brackets.
    fn is_union(&self, start: usize, at: usize, end: usize) -> bool {
        let tokens = self.source.tokens;
        match &tokens[at] {
            Token::Mark('∪') => true,
            Token::Name(name) if name == "U" && at > start && at + 1 < end => {
                matches!((&tokens[at - 1], &tokens[at + 1]), (Token::Close(_), Token::Open(_)))
            }
            _ => false,
        }
    }

    /// One bracket around everything.
    fn bracketed(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        let tokens = self.source.tokens;
        let (Token::Open(open), Token::Close(close)) = (&tokens[start], tokens.get(end - 1)?) else { return None };
        if self.source.partner[start] != end - 1 {
            return None;
        }
        let (from, to) = (start + 1, end - 1);
        match open {
            Bracket::Group => self.answer(from, to, depth + 1),
            Bracket::Environment(name) if matches!(name.as_str(), "cases" | "aligned" | "gathered" | "split") => {
                self.lines(from, to, depth)
            }
            Bracket::Environment(name) => self.matrix(name, from, to),
            Bracket::Curly => self.set(from, to, depth),
            Bracket::Round | Bracket::Square | Bracket::Angle => {
                let items = self.items(from, to, depth)?;
                match (items.len(), open == close) {
                    (1, true) => items.into_iter().next(),
                    (0 | 1, _) => None,
                    _ => Some(Answer::Tuple { open: open.clone(), close: close.clone(), items }),
                }
            }
            Bracket::Floor | Bracket::Ceil => None,
        }
    }

    /// Statements one below the other.
    fn lines(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        let mut parts = Vec::new();
        for (from, to) in self.split(start, end, |token| *token == Token::Mark('\n')) {
            if from < to {
                match self.answer(from, to, depth + 1)? {
                    Answer::List(several) | Answer::Every(several) => parts.extend(several),
                    one => parts.push(one),
                }
            }
        }
        joined_by(parts, false)
    }

    fn items(&self, start: usize, end: usize, depth: usize) -> Option<Vec<Answer>> {
        let parts = self.split(start, end, |token| matches!(token, Token::Mark(',' | ';')));
        if parts.len() == 1 && start == end {
            return Some(Vec::new());
        }
        parts.into_iter().map(|(from, to)| self.answer(from, to, depth + 1)).collect()
    }

    /// A set by its elements, or by a condition: `\{x : x > 2\}` is what `x > 2` says.
    fn set(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        let divider = |token: &Token| matches!(token, Token::Mark('|' | ':'));
        if let Some(at) = self.source.find(start, end, divider)
            && let Some(condition) = self.answer(at + 1, end, depth + 1)
            && matches!(condition, Answer::Relation { .. })
            && let Some(Token::Name(_)) = self.source.tokens[start..at].first()
        {
            return match &self.source.tokens[start + 1..at] {
                [] => Some(condition),
                [Token::Relation(Relation::In), Token::Name(set)] if set == "bb R" => Some(condition),
                // Among whole or complex numbers the condition describes no interval.
                _ => Some(Answer::List(vec![self.statement(start, at, depth + 1)?, condition])),
            };
        }
        self.items(start, end, depth).map(Answer::Set)
    }

    fn matrix(&self, name: &str, start: usize, end: usize) -> Option<Answer> {
        if name == "vmatrix" {
            let Answer::Matrix(rows) = self.matrix("matrix", start, end)? else { return None };
            return Some(Answer::Value { value: determinant(&rows)?, unit: None });
        }
        if !matches!(name, "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "smallmatrix" | "array") {
            return None;
        }
        let mut rows = Vec::new();
        for (from, to) in self.split(start, end, |token| *token == Token::Mark('\n')) {
            if from == to {
                continue;
            }
            let cells = self.split(from, to, |token| *token == Token::Mark('&'));
            let cells = cells.into_iter().map(|(from, to)| formula(self.source, from, to, 0));
            rows.push(cells.collect::<Option<Vec<_>>>()?);
        }
        let width = rows.first()?.len();
        rows.iter().all(|row| row.len() == width).then_some(Answer::Matrix(rows))
    }

    /// A matrix with a factor before it.
    fn scaled_matrix(&self, start: usize, end: usize) -> Option<Answer> {
        let tokens = self.source.tokens;
        let at =
            (start..end).find(|at| matches!(&tokens[*at], Token::Open(_)) && self.source.partner[*at] == end - 1)?;
        let Token::Open(Bracket::Environment(name)) = &tokens[at] else { return None };
        let Answer::Matrix(rows) = self.matrix(name, at + 1, end - 1)? else { return None };
        let minus = at == start + 1 && tokens[start] == Token::Mark('-');
        let factor = if minus { Expr::integer(-1) } else { formula(self.source, start, at, 0)? };
        let scaled = |cell: Expr| Expr::Product(vec![factor.clone(), cell]);
        Some(Answer::Matrix(rows.into_iter().map(|row| row.into_iter().map(scaled).collect()).collect()))
    }

    fn words(&self, start: usize, end: usize) -> Option<Answer> {
        let tokens = &self.source.tokens[start..end];
        let mut text = String::new();
        for token in tokens {
            let Token::Word(word) = token else { return None };
            text.push_str(word);
            text.push(' ');
        }
        Some(words::answer(&text))
    }

    /// A formula, with a unit behind it or a dollar sign before it.
    fn quantity(&self, start: usize, end: usize) -> Option<Answer> {
        let source = self.source;
        let tokens = source.tokens;
        if let Some(Token::Word(letter)) = tokens.get(start)
            && letter.len() == 1
            && start + 1 < end
        {
            // A choice with its value, as in `\text{(D)} 12`.
            let value = formula(source, start + 1, end, 0)?;
            return Some(Answer::Choice(letter.clone(), value));
        }
        let unit_start = source.find(start, end, |token| matches!(token, Token::Word(_))).unwrap_or(end);
        let multiplier = match tokens.get(unit_start) {
            Some(Token::Word(word)) if unit_start < end => unit::multiplier(word),
            _ => None,
        };
        let words_start = unit_start + usize::from(multiplier.is_some());
        let mut unit = if words_start < end { self.unit(words_start, end)? } else { None };
        let (mut from, mut to, mut negative) = (start, unit_start, false);
        let currency = |at: usize| match tokens.get(at) {
            Some(Token::Mark(sign)) => unit::currency(*sign),
            _ => None,
        };
        if tokens[from] == Token::Mark('-') && currency(from + 1).is_some() {
            (from, negative) = (from + 1, true);
        }
        if let Some(money) = currency(from) {
            from += 1;
            unit = unit.or(Some(money));
        } else if to > from
            && let Some(money) = currency(to - 1)
        {
            to -= 1;
            unit = unit.or(Some(money));
        }
        let value = formula(source, from, to, 0)?;
        let value = if negative { Expr::Negative(Box::new(value)) } else { value };
        let value = match multiplier {
            Some(factor) => Expr::Product(vec![value, Expr::integer(factor)]),
            None => value,
        };
        Some(Answer::Value { value, unit })
    }

    /// Words and the power of the last one: `\text{cm}^2`.
    fn unit(&self, start: usize, end: usize) -> Option<Option<unit::Unit>> {
        let mut words = String::new();
        let mut power = 1;
        let mut at = start;
        while at < end {
            match &self.source.tokens[at] {
                Token::Word(word) => {
                    words.push_str(word);
                    words.push(' ');
                }
                Token::Mark('/') => words.push('/'),
                Token::Mark('^') => {
                    let exponent = match self.source.tokens.get(at + 1)? {
                        Token::Open(Bracket::Group) => self.source.tokens.get(at + 2)?,
                        token => token,
                    };
                    let Token::Number(digits) = exponent else { return None };
                    power = digits.parse().ok()?;
                    let braced = matches!(self.source.tokens[at + 1], Token::Open(_));
                    at += if braced { 4 } else { 2 };
                    return if at == end { unit::parse(&words, power, self.source.fuel) } else { None };
                }
                _ => return None,
            }
            at += 1;
        }
        unit::parse(&words, power, self.source.fuel)
    }

    /// The pieces between the tokens that are `wanted` and in no bracket.
    fn split(&self, start: usize, end: usize, wanted: impl Fn(&Token) -> bool) -> Vec<(usize, usize)> {
        self.split_at(start, end, |at| wanted(&self.source.tokens[at]))
    }

    fn split_at(&self, start: usize, end: usize, wanted: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        let mut pieces = Vec::new();
        let (mut from, mut at) = (start, start);
        while at < end {
            if wanted(at) {
                pieces.push((from, at));
                from = at + 1;
            }
            at = if matches!(self.source.tokens[at], Token::Open(_)) { self.source.partner[at] } else { at } + 1;
        }
        pieces.push((from, end));
        pieces
    }
}

/// The answer that parts are together; bounds all hold, unless `either` says that one of them does.
fn joined_by(mut parts: Vec<Answer>, either: bool) -> Option<Answer> {
    // `x \ne -1, 1`
    if let Some(Answer::Relation { sides, relations }) = parts.first().cloned()
        && relations == [Relation::NotEqual]
        && parts[1..].iter().all(|part| matches!(part, Answer::Value { .. }))
    {
        for part in &mut parts[1..] {
            *part = Answer::Relation { sides: vec![sides[0].clone(), part.clone()], relations: relations.clone() };
        }
    }
    let bounds = |part: &Answer| match part {
        Answer::Relation { relations, .. } => {
            relations.iter().all(|relation| relation.is_order() || *relation == Relation::NotEqual)
        }
        _ => false,
    };
    match parts.len() {
        0 | 1 => parts.pop(),
        _ if !either && parts.iter().all(bounds) => Some(Answer::Every(parts)),
        _ => Some(Answer::List(parts)),
    }
}

/// Along the first row; larger matrices are only compared as written.
fn determinant(rows: &[Vec<Expr>]) -> Option<Expr> {
    if rows.len() > 4 || rows.iter().any(|row| row.len() != rows.len()) {
        return None;
    }
    let [first, below @ ..] = rows else { return Some(Expr::integer(1)) };
    let terms = first.iter().enumerate().map(|(column, cell)| {
        let without = |row: &Vec<Expr>| {
            row.iter().enumerate().filter(|(at, _)| *at != column).map(|(_, cell)| cell.clone()).collect()
        };
        let minor: Vec<Vec<Expr>> = below.iter().map(without).collect();
        let sign = Expr::integer(if column % 2 == 0 { 1 } else { -1 });
        Some(Expr::Product(vec![sign, cell.clone(), determinant(&minor)?]))
    });
    terms.collect::<Option<_>>().map(Expr::Sum)
}
