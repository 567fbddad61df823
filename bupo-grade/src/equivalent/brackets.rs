//! Reads what stands in brackets: sets, tuples, matrices, systems of equations.

use super::formula::formula;
use super::join::joined_by;
use super::reader::Reader;
use super::region;
use super::token::{Bracket, Relation, Token};
use super::tree::{Answer, Expr};

impl Reader<'_> {
    /// One bracket around everything.
    pub(super) fn bracketed(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
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

    /// A set by its elements, or by a condition: `\{x : x > 2\}` is the region of `x > 2`.
    fn set(&self, start: usize, end: usize, depth: usize) -> Option<Answer> {
        let divider = |token: &Token| matches!(token, Token::Mark('|' | ':'));
        if let Some(at) = self.source.find(start, end, divider)
            && let Some(condition) = self.answer(at + 1, end, depth + 1)
            && is_condition(&condition)
            && let Some(Token::Name(_)) = self.source.tokens[start..at].first()
        {
            return match &self.source.tokens[start + 1..at] {
                [] => Some(self.region(condition)),
                [Token::Relation(Relation::In), Token::Name(set)] if set == "bb R" => Some(self.region(condition)),
                // Among whole or complex numbers the condition describes no interval.
                _ => Some(Answer::List(vec![self.statement(start, at, depth + 1)?, condition])),
            };
        }
        self.items(start, end, depth).map(Answer::Set)
    }

    /// A condition as the set that it describes, whatever its variable is called.
    fn region(&self, condition: Answer) -> Answer {
        match region::of_relation(&condition, self.source.fuel) {
            Some(_) => Answer::Union(vec![condition]),
            None => condition,
        }
    }

    pub(super) fn matrix(&self, name: &str, start: usize, end: usize) -> Option<Answer> {
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
    pub(super) fn scaled_matrix(&self, start: usize, end: usize) -> Option<Answer> {
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

/// Whether an answer is a condition on the elements of a set, as bounds that all hold or of which one does.
fn is_condition(answer: &Answer) -> bool {
    match answer {
        Answer::Relation { .. } => true,
        Answer::Every(parts) | Answer::List(parts) => {
            parts.iter().all(|part| matches!(part, Answer::Relation { .. } | Answer::Every(_)))
        }
        _ => false,
    }
}
