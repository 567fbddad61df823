//! The tokens that answers are split into.

use super::number::Function;

/// One token. Spellings that typeset alike (`\dfrac` and `\frac`, `\le` and `≤`) are one token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Decimal digits, perhaps with a point and a power of ten: `12`, `.5`, `1.2e3`.
    Number(String),
    /// The digits under the bar of a repeating decimal, after a number.
    Repeating(String),
    /// A variable or a constant: `x`, `alpha`, `bb R`.
    Name(String),
    /// A name of several letters that is applied to arguments: `det`, `gcd`.
    Operator(String),
    Function(Function),
    /// Prose: the content of `\text{...}`, a unit, `and`, `or`.
    Word(String),
    Relation(Relation),
    Open(Bracket),
    Close(Bracket),
    /// A construct with arguments: `frac`, `sqrt`, `binom`.
    Command(String),
    /// One character: `+`, `^`, `,`, ...; a row of a matrix ends with `\n`.
    Mark(char),
}

impl Token {
    /// Whether the token can begin a factor, so that it multiplies what stands before it.
    pub(super) fn starts_factor(&self) -> bool {
        match self {
            Self::Number(_) | Self::Name(_) | Self::Function(_) | Self::Operator(_) => true,
            Self::Open(bracket) => !matches!(bracket, Bracket::Curly | Bracket::Environment(_)),
            Self::Command(name) => matches!(name.as_str(), "frac" | "sqrt" | "binom" | "sum" | "prod"),
            Self::Mark(mark) => *mark == '∞',
            _ => false,
        }
    }

    /// Whether the next characters are arguments, one by one.
    pub(super) fn takes_characters(&self) -> bool {
        matches!(self, Self::Command(name) if name == "frac" || name == "binom")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bracket {
    Round,
    Square,
    /// `\{`
    Curly,
    /// `\langle`
    Angle,
    Floor,
    Ceil,
    /// `{`, which only groups.
    Group,
    /// `\begin{name}`
    Environment(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    /// `\approx` and its kin.
    About,
    /// Every other one, by its name: `equiv`, `to`, `cong`.
    Other(&'static str),
}

impl Relation {
    pub(super) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Greater => Self::Less,
            Self::AtLeast => Self::AtMost,
            other => other,
        }
    }

    pub(super) fn is_order(self) -> bool {
        matches!(self, Self::Less | Self::AtMost | Self::Greater | Self::AtLeast)
    }
}

/// A text that differs where the tokens do; used to name subscripts and decorated symbols.
pub(super) fn key(tokens: &[Token]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for token in tokens {
        // Writing to a string cannot fail.
        let _ = match token {
            Token::Open(Bracket::Group) | Token::Close(Bracket::Group) => Ok(()),
            Token::Number(name) | Token::Name(name) => write!(text, "{name} "),
            Token::Word(name) => write!(text, "{} ", name.to_lowercase()),
            other => write!(text, "{other:?} "),
        };
    }
    text.trim_end().to_owned()
}
