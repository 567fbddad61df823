//! The named functions that are evaluated.

use super::ball::{Ball, Working};
use super::complex::Complex;
use super::exact::Exact;
use super::value::Number;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Arccot,
    Sinh,
    Cosh,
    Tanh,
    Coth,
    Sech,
    Csch,
    Arsinh,
    Arcosh,
    Artanh,
    Exp,
    Ln,
    /// A logarithm whose base is not written: natural to some, decimal to others.
    Log,
    Abs,
    Floor,
    Ceil,
    Factorial,
    DoubleFactorial,
    Re,
    Im,
    Arg,
}

impl Function {
    /// The function of that name, as it is written after a backslash or as plain text.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" | "tg" => Self::Tan,
            "cot" | "ctg" => Self::Cot,
            "sec" => Self::Sec,
            "csc" | "cosec" => Self::Csc,
            "arcsin" | "asin" => Self::Arcsin,
            "arccos" | "acos" => Self::Arccos,
            "arctan" | "atan" | "arctg" => Self::Arctan,
            "arccot" | "acot" => Self::Arccot,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "coth" => Self::Coth,
            "sech" => Self::Sech,
            "csch" => Self::Csch,
            "arcsinh" | "arsinh" | "asinh" => Self::Arsinh,
            "arccosh" | "arcosh" | "acosh" => Self::Arcosh,
            "arctanh" | "artanh" | "atanh" => Self::Artanh,
            "exp" => Self::Exp,
            "ln" => Self::Ln,
            "log" => Self::Log,
            "abs" => Self::Abs,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "Re" => Self::Re,
            "Im" => Self::Im,
            "arg" | "Arg" => Self::Arg,
            _ => return None,
        })
    }

    /// The inverse, for `\sin^{-1}`.
    pub(crate) fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Sin => Self::Arcsin,
            Self::Cos => Self::Arccos,
            Self::Tan => Self::Arctan,
            Self::Cot => Self::Arccot,
            Self::Sinh => Self::Arsinh,
            Self::Cosh => Self::Arcosh,
            Self::Tanh => Self::Artanh,
            _ => return None,
        })
    }

    /// Whether the argument is an angle.
    pub(crate) fn is_circular(self) -> bool {
        matches!(self, Self::Sin | Self::Cos | Self::Tan | Self::Cot | Self::Sec | Self::Csc)
    }

    pub(crate) fn apply(self, x: &Number, working: &Working) -> Option<Number> {
        let over = |value: Option<Number>| Number::from(1).div(&value?, working);
        match self {
            Self::Sin => Some(sin_cos(x, working)?.0),
            Self::Cos => Some(sin_cos(x, working)?.1),
            Self::Tan => sin_cos(x, working).and_then(|(sin, cos)| sin.div(&cos, working)),
            Self::Cot => sin_cos(x, working).and_then(|(sin, cos)| cos.div(&sin, working)),
            Self::Sec => over(Self::Cos.apply(x, working)),
            Self::Csc => over(Self::Sin.apply(x, working)),
            Self::Arcsin => {
                let half_turn = Number::pi(working)?.div(&2.into(), working)?;
                half_turn.sub(&Self::Arccos.apply(x, working)?, working)
            }
            Self::Arccos => arccos(x, working),
            Self::Arctan => arctan(x, working),
            Self::Arccot => Number::pi(working)?.div(&2.into(), working)?.sub(&arctan(x, working)?, working),
            Self::Sinh => halved(x.exp(working)?.sub(&x.neg().exp(working)?, working), working),
            Self::Cosh => halved(x.exp(working)?.add(&x.neg().exp(working)?, working), working),
            Self::Tanh => Self::Sinh.apply(x, working)?.div(&Self::Cosh.apply(x, working)?, working),
            Self::Coth => over(Self::Tanh.apply(x, working)),
            Self::Sech => over(Self::Cosh.apply(x, working)),
            Self::Csch => over(Self::Sinh.apply(x, working)),
            Self::Arsinh => root_of_square(x, 1, working)?.add(x, working)?.ln(working),
            Self::Arcosh => root_of_square(x, -1, working)?.add(x, working)?.ln(working),
            Self::Artanh => {
                let one = Number::from(1);
                halved(one.add(x, working)?.div(&one.sub(x, working)?, working)?.ln(working), working)
            }
            Self::Exp => x.exp(working),
            Self::Ln | Self::Log => x.ln(working),
            Self::Abs => x.abs(working),
            Self::Floor => floor(x, working),
            Self::Ceil => Some(floor(&x.neg(), working)?.neg()),
            Self::Factorial => Some(Number::Exact(x.exact()?.factorial(working.fuel)?)),
            Self::DoubleFactorial => Some(Number::Exact(x.exact()?.double_factorial(working.fuel)?)),
            Self::Re => part(x, |z| z.re.clone()),
            Self::Im => part(x, |z| z.im.clone()),
            Self::Arg => Some(Number::Near(Complex::real(x.complex(working)?.arg(working)?))),
        }
    }
}

fn halved(value: Option<Number>, working: &Working) -> Option<Number> {
    value?.div(&2.into(), working)
}

/// `sqrt(x^2 + shift)`
fn root_of_square(x: &Number, shift: i64, working: &Working) -> Option<Number> {
    x.mul(x, working)?.add(&shift.into(), working)?.sqrt(working)
}

fn sin_cos(x: &Number, working: &Working) -> Option<(Number, Number)> {
    let z = x.complex(working)?;
    if let Some(real) = z.as_real() {
        let (sin, cos) = real.sin_cos(working)?;
        return Some((Number::Near(Complex::real(sin)), Number::Near(Complex::real(cos))));
    }
    let i = Number::imaginary_unit();
    let turn = x.mul(&i, working)?;
    let (up, down) = (turn.exp(working)?, turn.neg().exp(working)?);
    let sin = up.sub(&down, working)?.div(&i.mul(&2.into(), working)?, working)?;
    Some((sin, halved(up.add(&down, working), working)?))
}

/// By `2 atan(sqrt((1 - x) / (1 + x)))`, from -1 to 1.
fn arccos(x: &Number, working: &Working) -> Option<Number> {
    let one = Number::from(1);
    if x.exact().is_some_and(|x| *x == (-1).into()) {
        return Number::pi(working);
    }
    let ratio = one.sub(x, working)?.div(&one.add(x, working)?, working)?;
    arctan(&ratio.sqrt(working)?, working)?.mul(&2.into(), working)
}

fn arctan(x: &Number, working: &Working) -> Option<Number> {
    let z = x.complex(working)?;
    Some(Number::Near(Complex::real(z.as_real()?.atan(working)?)))
}

fn floor(x: &Number, working: &Working) -> Option<Number> {
    match x {
        Number::Exact(value) => Some(Number::Exact(value.floor())),
        Number::Near(z) => Exact::integer(z.as_real()?.floor(working)?).map(Number::Exact),
    }
}

fn part(x: &Number, of: fn(&Complex) -> Ball) -> Option<Number> {
    match x {
        // An exact number is real.
        Number::Exact(_) => {
            let real = of(&Complex { re: Ball::integer(1), im: Ball::zero() }).is_exact_zero();
            Some(if real { 0.into() } else { x.clone() })
        }
        Number::Near(z) => Some(Number::Near(Complex::real(of(z)))),
    }
}
