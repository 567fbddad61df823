//! The syntax tree of an answer.

use super::number::{Exact, Function};
use super::token::{Bracket, Relation};
use super::unit::Unit;

/// A whole answer or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Prose, lowered.
    Words(String),
    Value {
        value: Expr,
        unit: Option<Unit>,
    },
    /// `(a, b)`, `[a, b)`: a point, a vector or an interval.
    Tuple {
        open: Bracket,
        close: Bracket,
        items: Vec<Answer>,
    },
    /// `\{a, b\}`
    Set(Vec<Answer>),
    /// `a, b` or `a \text{ or } b`
    List(Vec<Answer>),
    /// Rows of cells.
    Matrix(Vec<Vec<Expr>>),
    /// `A \cup B`
    Union(Vec<Answer>),
    /// `A \cap B`
    Intersection(Vec<Answer>),
    /// `x > 1 \text{ and } x < 2`: inequalities that all hold.
    Every(Vec<Answer>),
    /// `A \setminus B`
    Without(Box<Answer>, Box<Answer>),
    /// `a = b < c`: one more side than relations.
    Relation {
        sides: Vec<Answer>,
        relations: Vec<Relation>,
    },
    /// `\text{(A)}\ 5`: the letter of a choice, and its value.
    Choice(String, Box<Answer>),
    /// `a:b:c`, which may also be a time of day.
    Ratio {
        parts: Vec<Expr>,
        clock: Option<Clock>,
    },
    /// `3:45 \text{ PM}`
    Clock(Clock),
}

/// Hours, minutes and perhaps seconds, as they are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clock {
    pub(super) parts: Vec<u32>,
    /// Whether it is after noon, where that is said.
    pub(super) half: Option<bool>,
    /// Whether minutes or seconds have a leading zero, as no ratio has.
    pub(super) padded: bool,
}

impl Clock {
    /// Whether there is such a time of day.
    pub(super) fn is_valid(&self) -> bool {
        let hours = if self.half.is_some() { 1..=12 } else { 0..=24 };
        self.parts.first().is_some_and(|hour| hours.contains(hour)) && self.parts[1..].iter().all(|part| *part < 60)
    }

    /// The seconds since midnight.
    pub(super) fn seconds(&self) -> u32 {
        let mut parts = self.parts.clone();
        if let (Some(afternoon), Some(hour)) = (self.half, parts.first_mut()) {
            *hour = *hour % 12 + if afternoon { 12 } else { 0 };
        }
        parts.resize(3, 0);
        parts.iter().fold(0, |sum, part| sum * 60 + part)
    }
}

/// A formula.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Number(Exact),
    Constant(Constant),
    Variable(String),
    Sum(Vec<Expr>),
    Product(Vec<Expr>),
    Negative(Box<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    /// The root of a degree; odd roots of negative numbers are real.
    Root(Box<Expr>, Box<Expr>),
    Call(Function, Box<Expr>),
    /// The logarithm to a base: base, argument.
    Logarithm(Box<Expr>, Box<Expr>),
    Binomial(Box<Expr>, Box<Expr>),
    /// A function that nothing is known of, with its arguments.
    Apply(String, Vec<Expr>),
    /// `\sum_{index = first}^{last} body`, or the product.
    Series {
        product: bool,
        index: String,
        bounds: Box<(Expr, Expr)>,
        body: Box<Expr>,
    },
    /// `\pm x`, or `\mp x` where `flipped`.
    PlusMinus {
        flipped: bool,
        value: Box<Expr>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    Pi,
    E,
    I,
    Infinity,
    /// One degree of an angle.
    Degree,
    /// One hundredth.
    Percent,
}

impl Expr {
    pub(super) fn integer(value: i64) -> Self {
        Self::Number(value.into())
    }

    /// The constant of that name, or a variable.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "pi" => Self::Constant(Constant::Pi),
            "e" => Self::Constant(Constant::E),
            "i" => Self::Constant(Constant::I),
            name => Self::Variable(name.to_owned()),
        }
    }

    /// All parts joined by `many`, or the only one as it is.
    pub(super) fn of_parts(mut parts: Vec<Self>, many: fn(Vec<Self>) -> Self) -> Self {
        match (parts.len(), parts.pop()) {
            (1, Some(part)) => part,
            (_, Some(last)) => {
                parts.push(last);
                many(parts)
            }
            _ => many(parts),
        }
    }

    pub(super) fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Number(_) | Self::Constant(_) | Self::Variable(_) => Vec::new(),
            Self::Sum(parts) | Self::Product(parts) | Self::Apply(_, parts) => parts.iter().collect(),
            Self::Series { bounds, body, .. } => vec![&bounds.0, &bounds.1, body],
            Self::Negative(part) | Self::Call(_, part) | Self::PlusMinus { value: part, .. } => vec![part],
            Self::Quotient(a, b)
            | Self::Power(a, b)
            | Self::Root(a, b)
            | Self::Logarithm(a, b)
            | Self::Binomial(a, b) => {
                vec![a, b]
            }
        }
    }

    /// Whether any part of the formula is `wanted`.
    pub(super) fn any(&self, wanted: &mut dyn FnMut(&Expr) -> bool) -> bool {
        wanted(self) || self.children().into_iter().any(|child| child.any(wanted))
    }

    /// Whether the formula is a number, written without variables.
    pub(super) fn is_closed(&self) -> bool {
        !self.any(&mut |part| matches!(part, Self::Variable(_) | Self::Apply(..) | Self::Series { .. }))
    }

    /// 1 or -1 for an infinity of that sign.
    pub(super) fn infinity(&self) -> Option<i8> {
        match self {
            Self::Constant(Constant::Infinity) => Some(1),
            Self::Negative(part) => part.infinity().map(|sign| -sign),
            _ => None,
        }
    }

    /// The formula with the upper or the lower sign of every `\pm`.
    pub(super) fn with_sign(&self, lower: bool) -> Self {
        let one = |part: &Expr| Box::new(part.with_sign(lower));
        let all = |parts: &[Expr]| parts.iter().map(|part| part.with_sign(lower)).collect();
        match self {
            Self::Number(_) | Self::Constant(_) | Self::Variable(_) => self.clone(),
            Self::Sum(parts) => Self::Sum(all(parts)),
            Self::Product(parts) => Self::Product(all(parts)),
            Self::Apply(name, parts) => Self::Apply(name.clone(), all(parts)),
            Self::Negative(part) => Self::Negative(one(part)),
            Self::Call(function, part) => Self::Call(*function, one(part)),
            Self::Quotient(a, b) => Self::Quotient(one(a), one(b)),
            Self::Power(a, b) => Self::Power(one(a), one(b)),
            Self::Root(a, b) => Self::Root(one(a), one(b)),
            Self::Logarithm(a, b) => Self::Logarithm(one(a), one(b)),
            Self::Binomial(a, b) => Self::Binomial(one(a), one(b)),
            Self::Series { product, index, bounds, body } => Self::Series {
                product: *product,
                index: index.clone(),
                bounds: Box::new((bounds.0.with_sign(lower), bounds.1.with_sign(lower))),
                body: one(body),
            },
            Self::PlusMinus { flipped, value } if *flipped == lower => value.with_sign(lower),
            Self::PlusMinus { value, .. } => Self::Negative(one(value)),
        }
    }
}
