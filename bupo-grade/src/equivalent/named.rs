//! Reads what begins with a name: variables, functions with their arguments, sums over an index.

use super::number::Function;
use super::parser::Parser;
use super::token::{Bracket, Relation, Token, key};
use super::tree::{Constant, Expr};

/// Symbols that are usually functions, so that a parenthesis behind them holds their argument.
const FUNCTION_LETTERS: [&str; 10] = ["f", "g", "h", "F", "G", "H", "phi", "psi", "Phi", "Psi"];

impl Parser<'_> {
    pub(super) fn named_factor(&mut self, name: &str) -> Option<Expr> {
        let written = self.decorations(name)?;
        if written == name && matches!(name, "e" | "i" | "pi") {
            return Some(Expr::named(name));
        }
        let Some((bracket, end)) = self.opening() else { return Some(Expr::Variable(written)) };
        let inside = &self.source.tokens[self.at + 1..end];
        let listed = inside.contains(&Token::Mark(','));
        let upper = name.starts_with(|c: char| c.is_ascii_uppercase());
        let letter = matches!(inside, [Token::Name(_)]) || (matches!(inside, [Token::Number(_)]) && name != "n");
        let event = inside
            .iter()
            .any(|token| matches!(token, Token::Relation(_)) || (name == "P" && *token == Token::Mark('|')));
        let applied = match bracket {
            Bracket::Round => listed || letter || event || FUNCTION_LETTERS.contains(&name),
            Bracket::Square => listed || name.starts_with("bb ") || (upper && letter),
            _ => false,
        };
        if !applied {
            return Some(Expr::Variable(written));
        }
        if written == "C" && *bracket == Bracket::Round && listed {
            let mut pair = self.arguments()?;
            return match (pair.pop(), pair.pop(), pair.pop()) {
                (Some(lower), Some(upper), None) => Some(Expr::Binomial(Box::new(upper), Box::new(lower))),
                _ => None,
            };
        }
        if inside.iter().any(|token| matches!(token, Token::Relation(_) | Token::Mark('|')))
            && !FUNCTION_LETTERS.contains(&name)
        {
            // `P(X = 1)` and `P(A | B)` only name a number.
            self.at = end + 1;
            return Some(Expr::Variable(format!("{written}({})", key(inside))));
        }
        let shape = if *bracket == Bracket::Square { "[]" } else { "" };
        Some(Expr::Apply(format!("{written}{shape}"), self.arguments()?))
    }

    /// Primes, subscripts and superscripts that are no powers belong to the name.
    pub(super) fn decorations(&mut self, name: &str) -> Option<String> {
        let mut name = name.to_owned();
        loop {
            match self.peek_mark() {
                Some('\'') => {
                    self.at += 1;
                    name.push('\'');
                }
                Some('_') => {
                    self.at += 1;
                    name.push('_');
                    name.push_str(&self.subscript()?);
                }
                Some('^') => match self.mark_above() {
                    Some((mark, end)) => {
                        self.at = end;
                        name.push_str(&mark);
                    }
                    None => return Some(name),
                },
                _ => return Some(name),
            }
        }
    }

    /// A superscript that is no power, and where it ends: `^*`, `^+`, `^\top`, `^{\prime}`; `f^{(3)}`, `f^{-1}(x)`.
    fn mark_above(&self) -> Option<(String, usize)> {
        let tokens = self.source.tokens;
        let at = self.at + 1;
        let is_mark = |token: &Token| match token {
            Token::Mark(mark) => matches!(mark, '*' | '+' | '-' | '\''),
            Token::Name(name) => matches!(name.as_str(), "top" | "dagger"),
            _ => false,
        };
        match tokens.get(at)? {
            Token::Open(Bracket::Group) => {
                let end = self.source.partner[at];
                let inside = tokens.get(at + 1..end)?;
                let call = matches!(tokens.get(end + 1), Some(Token::Open(Bracket::Round))) && end + 1 < self.end;
                let inverse = matches!(inside, [Token::Mark('-'), Token::Number(one)] if one == "1");
                let function = matches!(tokens.get(self.at - 1), Some(Token::Name(name)) if FUNCTION_LETTERS.contains(&name.as_str()));
                let derivative = matches!(inside, [Token::Open(Bracket::Round), .., Token::Close(Bracket::Round)]);
                let marked = inside.len() == 1 && is_mark(&inside[0]);
                let named = marked || (call && function && (inverse || derivative));
                (named && end < self.end).then(|| (format!("^{}", key(inside)), end + 1))
            }
            // `x^-1` and `x^+y` are powers.
            token if is_mark(token) && !tokens.get(at + 1).is_some_and(Token::starts_factor) => {
                Some((format!("^{}", key(std::slice::from_ref(token))), at + 1))
            }
            _ => None,
        }
    }

    pub(super) fn subscript(&mut self) -> Option<String> {
        let start = self.at;
        match self.opening() {
            Some((Bracket::Group, end)) => {
                self.at = end + 1;
                Some(key(&self.source.tokens[start + 1..end]))
            }
            _ => {
                let token = self.peek()?;
                self.at += 1;
                Some(key(std::slice::from_ref(token)))
            }
        }
    }

    pub(super) fn arguments(&mut self) -> Option<Vec<Expr>> {
        let (_, end) = self.opening()?;
        let mut arguments = Vec::new();
        let mut start = self.at + 1;
        let mut at = start;
        while at <= end {
            match &self.source.tokens[at] {
                token if at == end || *token == Token::Mark(',') => {
                    arguments.push(self.deeper(start, at)?);
                    start = at + 1;
                }
                Token::Open(_) => at = self.source.partner[at],
                _ => {}
            }
            at += 1;
        }
        self.at = end + 1;
        Some(arguments)
    }

    /// A function with its power, its base and its argument: `\sin^2 x`, `\log_2 8`, `\ln(x)`.
    pub(super) fn call(&mut self, mut function: Function) -> Option<Expr> {
        let (mut exponent, mut base) = (None, None);
        loop {
            if self.eat('^') {
                let degree = self.script()?;
                if degree == Expr::Negative(Box::new(Expr::integer(1)))
                    && let Some(inverse) = function.inverse()
                {
                    function = inverse;
                } else {
                    exponent = Some(degree);
                }
            } else if self.eat('_') {
                base = Some(self.script()?);
            } else {
                break;
            }
        }
        let argument = match self.opening() {
            Some((Bracket::Round | Bracket::Group | Bracket::Square, _)) => self.group()?,
            _ => self.tight_product(function.is_circular())?,
        };
        let value = match base {
            Some(base) if matches!(function, Function::Log | Function::Ln) => {
                Expr::Logarithm(Box::new(base), Box::new(argument))
            }
            Some(_) => return None,
            None => Expr::Call(function, Box::new(argument)),
        };
        Some(match exponent {
            Some(exponent) => Expr::Power(Box::new(value), Box::new(exponent)),
            None => value,
        })
    }

    /// An argument without parentheses: what is multiplied without a sign, up to the next function. `\sin \pi/4` takes its
    /// divisor too, for a sine of pi is never meant.
    pub(super) fn tight_product(&mut self, angle: bool) -> Option<Expr> {
        let negative = self.eat('-');
        let mut parts = vec![self.factor()?];
        while let Some(token) = self.peek() {
            let bracket = matches!(token, Token::Open(Bracket::Round | Bracket::Square));
            if !Token::starts_factor(token) || bracket || matches!(token, Token::Function(_) | Token::Operator(_)) {
                break;
            }
            parts.push(self.factor()?);
        }
        let turn = parts.last() == Some(&Expr::Constant(Constant::Pi));
        let mut argument = Expr::of_parts(parts, Expr::Product);
        if angle && turn && self.eat('/') {
            argument = Expr::Quotient(Box::new(argument), Box::new(self.factor()?));
        }
        Some(if negative { Expr::Negative(Box::new(argument)) } else { argument })
    }

    /// `\sum_{k=1}^{n} k^2`
    pub(super) fn series(&mut self, product: bool) -> Option<Expr> {
        if !self.eat('_') {
            return None;
        }
        let (_, end) = self.opening()?;
        let Some([Token::Name(index), Token::Relation(Relation::Equal)]) =
            self.source.tokens.get(self.at + 1..self.at + 3)
        else {
            return None;
        };
        let first = self.deeper(self.at + 3, end)?;
        self.at = end + 1;
        if !self.eat('^') {
            return None;
        }
        let last = self.script()?;
        let body = Box::new(self.product()?);
        Some(Expr::Series { product, index: index.clone(), bounds: Box::new((first, last)), body })
    }
}
