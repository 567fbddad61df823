//! Reads the factors of a product: atoms with their powers, fractions and roots.

use super::decimal::{decimal, in_base, repeating};
use super::number::Function;
use super::parser::{MOST_DEPTH, Parser};
use super::token::{Bracket, Token};
use super::tree::{Constant, Expr};

/// Marks behind one factor, at most.
const MOST_MARKS: usize = 6;

impl Parser<'_> {
    /// One factor with all that is written behind it.
    pub(super) fn factor(&mut self) -> Option<Expr> {
        if self.depth >= MOST_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = self.atom().and_then(|value| self.marked(value));
        self.depth -= 1;
        value
    }

    /// `value` with the powers, factorials, degrees and percents behind it.
    pub(super) fn marked(&mut self, mut value: Expr) -> Option<Expr> {
        let mut marks = 0;
        while let Some(mark) = self.peek_mark() {
            marks += 1;
            if marks > MOST_MARKS {
                return None;
            }
            match mark {
                '^' => {
                    self.at += 1;
                    value = self.power(value)?;
                }
                '!' => {
                    self.at += 1;
                    let twice = self.eat('!');
                    let function = if twice { Function::DoubleFactorial } else { Function::Factorial };
                    value = Expr::Call(function, Box::new(value));
                }
                '%' => {
                    self.at += 1;
                    value = Expr::Product(vec![value, Expr::Constant(Constant::Percent)]);
                }
                '°' => {
                    self.at += 1;
                    value = Expr::Product(vec![value, Expr::Constant(Constant::Degree)]);
                }
                _ => break,
            }
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<Expr> {
        let source = self.source;
        match self.peek()? {
            Token::Number(text) => self.number(text),
            Token::Name(name) => {
                self.at += 1;
                self.named_factor(name)
            }
            Token::Operator(name) => {
                self.at += 1;
                let name = self.decorations(name)?;
                match self.opening() {
                    Some(_) => Some(Expr::Apply(name, self.arguments()?)),
                    None => Some(Expr::Apply(name, vec![self.tight_product(false)?])),
                }
            }
            Token::Function(function) => {
                self.at += 1;
                self.call(*function)
            }
            Token::Open(bracket) => {
                let round = match bracket {
                    Bracket::Floor => Some(Function::Floor),
                    Bracket::Ceil => Some(Function::Ceil),
                    Bracket::Round | Bracket::Square | Bracket::Group => None,
                    _ => return None,
                };
                let (_, end) = self.opening()?;
                if let [Token::Number(digits)] = &source.tokens[self.at + 1..end]
                    && source.tokens.get(end + 1) == Some(&Token::Mark('_'))
                {
                    self.at = end;
                    return self.number(digits);
                }
                if round.is_none() && source.tokens.get(end) != Some(&Token::Close(bracket.clone())) {
                    return None;
                }
                let inside = self.group()?;
                Some(match round {
                    Some(function) => Expr::Call(function, Box::new(inside)),
                    None => inside,
                })
            }
            Token::Command(name) => {
                self.at += 1;
                match name.as_str() {
                    "frac" => {
                        let (above, below) = (self.argument()?, self.argument()?);
                        Some(Expr::Quotient(Box::new(above), Box::new(below)))
                    }
                    "binom" => {
                        let (above, below) = (self.argument()?, self.argument()?);
                        Some(Expr::Binomial(Box::new(above), Box::new(below)))
                    }
                    "sqrt" => self.root(),
                    "sum" | "prod" => self.series(name == "prod"),
                    _ => None,
                }
            }
            Token::Mark('∞') => {
                self.at += 1;
                Some(Expr::Constant(Constant::Infinity))
            }
            Token::Mark('|') => self.absolute(),
            _ => None,
        }
    }

    pub(super) fn number(&mut self, text: &str) -> Option<Expr> {
        let source = self.source;
        self.at += 1;
        if let Some(Token::Repeating(period)) = self.peek() {
            self.at += 1;
            return repeating(text, period, source.fuel).map(Expr::Number);
        }
        if self.eat('_') {
            let base = self.subscript()?;
            return in_base(text, base.trim_matches(['(', ')']).parse().ok()?, source.fuel).map(Expr::Number);
        }
        decimal(text, source.fuel).map(Expr::Number)
    }

    /// An argument of `\frac` or `\sqrt`: a group, or one character.
    pub(super) fn argument(&mut self) -> Option<Expr> {
        match self.peek()? {
            Token::Open(Bracket::Group) => self.group(),
            Token::Number(digits) => self.number(digits),
            Token::Name(name) => {
                self.at += 1;
                Some(Expr::named(name))
            }
            Token::Command(_) | Token::Mark('∞') => self.bare(),
            Token::Open(Bracket::Round) => self.group(),
            _ => None,
        }
    }

    /// A factor without what is written behind it, one level further down.
    pub(super) fn bare(&mut self) -> Option<Expr> {
        if self.depth >= MOST_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = self.atom();
        self.depth -= 1;
        value
    }

    fn root(&mut self) -> Option<Expr> {
        let degree = match self.opening() {
            Some((Bracket::Square, _)) => self.group()?,
            _ => Expr::integer(2),
        };
        let radicand = self.argument()?;
        Some(Expr::Root(Box::new(radicand), Box::new(degree)))
    }

    fn power(&mut self, base: Expr) -> Option<Expr> {
        let inside = match self.opening() {
            Some((Bracket::Group, end)) => &self.source.tokens[self.at + 1..end],
            _ => self.source.tokens.get(self.at..self.end.min(self.at + 1))?,
        };
        let letter_o = |token: &Token| matches!(token, Token::Name(name) | Token::Word(name) if name == "o");
        if inside == [Token::Mark('°')]
            || (matches!(base, Expr::Number(_)) && inside.len() == 1 && letter_o(&inside[0]))
        {
            self.script_end()?;
            return Some(Expr::Product(vec![base, Expr::Constant(Constant::Degree)]));
        }
        Some(Expr::Power(Box::new(base), Box::new(self.script()?)))
    }

    fn script_end(&mut self) -> Option<()> {
        self.at = match self.opening() {
            Some((_, end)) => end + 1,
            None => self.at + 1,
        };
        Some(())
    }

    /// A superscript or subscript that is a formula: a group, or one signed token.
    pub(super) fn script(&mut self) -> Option<Expr> {
        if let Some((Bracket::Group, _)) = self.opening() {
            return self.group();
        }
        let negative = self.eat('-');
        let value = match self.peek()? {
            Token::Number(text) => {
                self.at += 1;
                decimal(text, self.source.fuel).map(Expr::Number)?
            }
            Token::Name(name) => {
                self.at += 1;
                Expr::named(name)
            }
            // `e^(x+1)` and `2^\frac{1}{2}` are not TeX, but what is meant is plain.
            Token::Open(Bracket::Round) => self.group()?,
            Token::Command(_) | Token::Mark('∞') => self.bare()?,
            _ => return None,
        };
        Some(if negative { Expr::Negative(Box::new(value)) } else { value })
    }

    /// `|x|`
    fn absolute(&mut self) -> Option<Expr> {
        if self.depth >= MOST_DEPTH {
            return None;
        }
        self.at += 1;
        let mut inner = Parser { source: self.source, at: self.at, end: self.end, depth: self.depth + 1, bars: 1 };
        let inside = inner.sum()?;
        if !inner.eat('|') {
            return None;
        }
        self.at = inner.at;
        Some(Expr::Call(Function::Abs, Box::new(inside)))
    }
}
