//! Values of expressions: exact rationals where possible, else complex balls.

use num_bigint::Sign;

use super::ball::{Ball, Working};
use super::complex::Complex;
use super::exact::Exact;
use super::magnitude::Magnitude;

/// The value of an expression at a point. Operations answer `None` where the value is undefined or cannot be settled.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    Exact(Exact),
    Near(Complex),
}

/// What two values say about each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Different,
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Exact(value.into())
    }
}

impl Number {
    pub(crate) fn pi(working: &Working) -> Option<Self> {
        Some(Self::Near(Complex::real(Ball::pi(working)?)))
    }

    pub(crate) fn imaginary_unit() -> Self {
        Self::Near(Complex { re: Ball::zero(), im: Ball::integer(1) })
    }

    pub(crate) fn complex(&self, working: &Working) -> Option<Complex> {
        match self {
            Self::Exact(value) => Some(Complex::real(Ball::from_exact(value, working)?)),
            Self::Near(value) => Some(value.clone()),
        }
    }

    pub(crate) fn exact(&self) -> Option<&Exact> {
        match self {
            Self::Exact(value) => Some(value),
            Self::Near(_) => None,
        }
    }

    /// The sign of a real number, where it is settled.
    pub(crate) fn sign(&self) -> Option<Sign> {
        match self {
            Self::Exact(value) => Some(value.numerator().sign()),
            Self::Near(value) => value.as_real()?.sign(),
        }
    }

    pub(crate) fn is_real(&self) -> bool {
        match self {
            Self::Exact(_) => true,
            Self::Near(value) => value.as_real().is_some(),
        }
    }

    /// Whether the imaginary part is certainly not zero.
    pub(crate) fn is_unreal(&self) -> bool {
        match self {
            Self::Exact(_) => false,
            Self::Near(value) => value.im.sign().is_some_and(|sign| sign != Sign::NoSign),
        }
    }

    pub(crate) fn neg(&self) -> Self {
        match self {
            Self::Exact(value) => Self::Exact(value.neg()),
            Self::Near(value) => Self::Near(value.neg()),
        }
    }

    pub(crate) fn conjugate(&self) -> Self {
        match self {
            Self::Exact(_) => self.clone(),
            Self::Near(value) => Self::Near(Complex { re: value.re.clone(), im: value.im.neg() }),
        }
    }

    pub(crate) fn add(&self, other: &Self, working: &Working) -> Option<Self> {
        if let (Self::Exact(a), Self::Exact(b)) = (self, other)
            && let Some(sum) = a.add(b, working.fuel)
        {
            return Some(Self::Exact(sum));
        }
        Some(Self::Near(self.complex(working)?.add(&other.complex(working)?, working)?))
    }

    pub(crate) fn sub(&self, other: &Self, working: &Working) -> Option<Self> {
        self.add(&other.neg(), working)
    }

    pub(crate) fn mul(&self, other: &Self, working: &Working) -> Option<Self> {
        if let (Self::Exact(a), Self::Exact(b)) = (self, other)
            && let Some(product) = a.mul(b, working.fuel)
        {
            return Some(Self::Exact(product));
        }
        Some(Self::Near(self.complex(working)?.mul(&other.complex(working)?, working)?))
    }

    pub(crate) fn div(&self, divisor: &Self, working: &Working) -> Option<Self> {
        if let (Self::Exact(a), Self::Exact(b)) = (self, divisor) {
            if b.is_zero() {
                return None;
            }
            if let Some(quotient) = b.recip().and_then(|inverse| a.mul(&inverse, working.fuel)) {
                return Some(Self::Exact(quotient));
            }
        }
        Some(Self::Near(self.complex(working)?.div(&divisor.complex(working)?, working)?))
    }

    /// Powers; `real_root` asks for the real value of an odd root of a negative number instead of the principal one.
    pub(crate) fn pow(&self, exponent: &Self, real_root: bool, working: &Working) -> Option<Self> {
        let Self::Exact(power) = exponent else { return self.transcendental_pow(exponent, working) };
        if let Some(whole) = power.to_i64() {
            return self.whole_pow(whole, working);
        }
        if let Some(degree) =
            power.denominator().try_into().ok().filter(|degree| *degree <= 64u32 && !power.is_integer())
        {
            let numerator = Exact::integer(power.numerator().clone())?.to_i64()?;
            return self.rational_pow(numerator, degree, real_root, working);
        }
        self.transcendental_pow(exponent, working)
    }

    pub(crate) fn sqrt(&self, working: &Working) -> Option<Self> {
        if let Self::Exact(value) = self {
            let root = value.abs().root(2, working.fuel);
            match (root, value.is_negative()) {
                (Some(root), false) => return Some(Self::Exact(root)),
                (Some(root), true) => return Self::Exact(root).mul(&Self::imaginary_unit(), working),
                (None, _) => {}
            }
        }
        Some(Self::Near(self.complex(working)?.sqrt(working)?))
    }

    pub(crate) fn exp(&self, working: &Working) -> Option<Self> {
        if self.exact().is_some_and(Exact::is_zero) {
            return Some(1.into());
        }
        Some(Self::Near(self.complex(working)?.exp(working)?))
    }

    pub(crate) fn ln(&self, working: &Working) -> Option<Self> {
        if self.exact().is_some_and(Exact::is_one) {
            return Some(0.into());
        }
        Some(Self::Near(self.complex(working)?.ln(working)?))
    }

    pub(crate) fn abs(&self, working: &Working) -> Option<Self> {
        match self {
            Self::Exact(value) => Some(Self::Exact(value.abs())),
            Self::Near(value) => Some(Self::Near(Complex::real(value.abs(working)?))),
        }
    }

    /// Same or different, or `None` while the precision does not settle it: an enclosure of the difference that excludes
    /// zero makes them different; one that has shrunk around zero to a tiny part of their size makes them the same.
    pub(crate) fn compare(&self, other: &Self, working: &Working) -> Option<Verdict> {
        if let (Self::Exact(a), Self::Exact(b)) = (self, other) {
            return Some(if a == b { Verdict::Same } else { Verdict::Different });
        }
        let (a, b) = (self.complex(working)?, other.complex(working)?);
        let parts = [a.re.sub(&b.re, working)?, a.im.sub(&b.im, working)?];
        if parts.iter().any(|part| !part.least().is_zero()) {
            return Some(Verdict::Different);
        }
        let size = a.least().add(b.least());
        let size = if size.is_zero() { Magnitude::power_of_two(0) } else { size };
        let bound = size.mul(Magnitude::power_of_two(-(working.bits as i64) * 7 / 10));
        parts.iter().all(|part| part.most().at_most(bound)).then_some(Verdict::Same)
    }

    fn whole_pow(&self, exponent: i64, working: &Working) -> Option<Self> {
        if let Self::Exact(base) = self {
            if base.is_zero() && exponent < 0 {
                return None;
            }
            if let Some(power) = base.pow(exponent, working.fuel) {
                return Some(Self::Exact(power));
            }
        }
        if exponent < 0 {
            return Self::from(1).div(&self.whole_pow(exponent.checked_neg()?, working)?, working);
        }
        let (mut square, mut left) = (Self::Near(self.complex(working)?), exponent);
        let mut power = Self::from(1);
        while left > 0 {
            if left % 2 == 1 {
                power = power.mul(&square, working)?;
            }
            left /= 2;
            if left > 0 {
                square = square.mul(&square, working)?;
            }
        }
        Some(power)
    }

    fn rational_pow(&self, numerator: i64, degree: u32, real_root: bool, working: &Working) -> Option<Self> {
        let sign = self.sign();
        if sign == Some(Sign::NoSign) {
            return (numerator > 0).then(|| 0.into());
        }
        if sign == Some(Sign::Minus) && degree % 2 == 1 && real_root {
            let power = self.neg().rational_pow(numerator, degree, true, working)?;
            return Some(if numerator % 2 == 0 { power } else { power.neg() });
        }
        if let Self::Exact(base) = self
            && let Some(root) = base.root(degree, working.fuel)
        {
            return Self::Exact(root).whole_pow(numerator, working);
        }
        if degree == 2 {
            return self.sqrt(working)?.whole_pow(numerator, working);
        }
        let exponent = Self::from(numerator).div(&i64::from(degree).into(), working)?;
        self.transcendental_pow(&exponent, working)
    }

    fn transcendental_pow(&self, exponent: &Self, working: &Working) -> Option<Self> {
        match self.exact() {
            Some(base) if base.is_one() => Some(1.into()),
            Some(base) if base.is_zero() => (exponent.sign() == Some(Sign::Plus)).then(|| 0.into()),
            _ => self.ln(working)?.mul(exponent, working)?.exp(working),
        }
    }
}
