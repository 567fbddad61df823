//! Real numbers known up to an error: a midpoint and a bound of how far the number may be from it.

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, Zero};

use super::exact::Exact;
use super::fuel::Fuel;
use super::magnitude::Magnitude;

/// Exponents beyond this are answered with `None`.
const MOST_EXPONENT: i64 = 1 << 50;

/// What an operation needs to know: the precision in bits, and the budget it works from.
pub(crate) struct Working<'a> {
    pub(crate) bits: u64,
    pub(crate) fuel: &'a Fuel,
}

/// Some real number within `radius` of `middle * 2^exponent`.
#[derive(Clone, Debug)]
pub(crate) struct Ball {
    pub(super) middle: BigInt,
    pub(super) exponent: i64,
    pub(super) radius: Magnitude,
}

impl Ball {
    pub(crate) fn zero() -> Self {
        Self { middle: BigInt::zero(), exponent: 0, radius: Magnitude::ZERO }
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self { middle: value.into(), exponent: 0, radius: Magnitude::ZERO }
    }

    pub(crate) fn from_exact(value: &Exact, working: &Working) -> Option<Self> {
        Self::rounded(value.numerator().clone(), 0, Magnitude::ZERO, working)?
            .div(&Self { middle: value.denominator().clone(), exponent: 0, radius: Magnitude::ZERO }, working)
    }

    /// Cuts the midpoint to the working precision and pays for it in the radius.
    pub(super) fn rounded(middle: BigInt, exponent: i64, radius: Magnitude, working: &Working) -> Option<Self> {
        let surplus = middle.bits().saturating_sub(working.bits);
        let ball = if surplus == 0 {
            Self { middle, exponent, radius }
        } else {
            let exponent = exponent.checked_add(i64::try_from(surplus).ok()?)?;
            Self { middle: middle >> surplus, exponent, radius: radius.add(Magnitude::power_of_two(exponent)) }
        };
        let top = ball.exponent.checked_add(i64::try_from(ball.middle.bits()).ok()?)?;
        (top.abs() <= MOST_EXPONENT && ball.exponent.abs() <= MOST_EXPONENT).then_some(ball)
    }

    pub(crate) fn is_exact_zero(&self) -> bool {
        self.middle.is_zero() && self.radius.is_zero()
    }

    /// The sign, where the whole ball has one.
    pub(crate) fn sign(&self) -> Option<Sign> {
        if self.is_exact_zero() {
            return Some(Sign::NoSign);
        }
        (!self.least().is_zero()).then(|| self.middle.sign())
    }

    /// A lower bound of the absolute value.
    pub(crate) fn least(&self) -> Magnitude {
        Magnitude::below(&self.middle, self.exponent).minus(self.radius)
    }

    /// An upper bound of the absolute value.
    pub(crate) fn most(&self) -> Magnitude {
        Magnitude::above(&self.middle, self.exponent).add(self.radius)
    }

    /// The place above the highest bit of the midpoint.
    pub(super) fn top(&self) -> i64 {
        self.exponent + self.middle.bits() as i64
    }

    pub(crate) fn neg(&self) -> Self {
        Self { middle: -&self.middle, ..self.clone() }
    }

    pub(crate) fn abs(&self) -> Self {
        // Where the sign is open, |x| is still within the radius of |middle|.
        Self { middle: self.middle.abs(), ..self.clone() }
    }

    pub(crate) fn add(&self, other: &Self, working: &Working) -> Option<Self> {
        working.fuel.burn_bits(working.bits, 0)?;
        let radius = self.radius.add(other.radius);
        if self.middle.is_zero() || other.middle.is_zero() {
            let larger = if self.middle.is_zero() { other } else { self };
            return Self::rounded(larger.middle.clone(), larger.exponent, radius, working);
        }
        let (high, low) = if self.top() >= other.top() { (self, other) } else { (other, self) };
        if high.top() - low.top() > working.bits as i64 + 8 {
            // A term this small would vanish without a trace, and the sum look like the larger term alone.
            if low.sign().is_some() {
                return None;
            }
            let radius = radius.add(Magnitude::above(&low.middle, low.exponent));
            return Self::rounded(high.middle.clone(), high.exponent, radius, working);
        }
        let exponent = high.exponent.min(low.exponent);
        let aligned = |ball: &Self| &ball.middle << (ball.exponent - exponent);
        Self::rounded(aligned(high) + aligned(low), exponent, radius, working)
    }

    pub(crate) fn sub(&self, other: &Self, working: &Working) -> Option<Self> {
        self.add(&other.neg(), working)
    }

    pub(crate) fn mul(&self, other: &Self, working: &Working) -> Option<Self> {
        if self.is_exact_zero() || other.is_exact_zero() {
            return Some(Self::zero());
        }
        working.fuel.burn_bits(working.bits, working.bits)?;
        let mine = self.most().mul(other.radius);
        let theirs = Magnitude::above(&other.middle, other.exponent).mul(self.radius);
        let exponent = self.exponent.checked_add(other.exponent)?;
        Self::rounded(&self.middle * &other.middle, exponent, mine.add(theirs), working)
    }

    /// `None` where the divisor may be zero.
    pub(crate) fn div(&self, divisor: &Self, working: &Working) -> Option<Self> {
        let least = divisor.least();
        if least.is_zero() {
            return None;
        }
        working.fuel.burn_bits(working.bits * 4, working.bits)?;
        let shift = (working.bits + divisor.middle.bits() + 2).saturating_sub(self.middle.bits());
        let quotient = (&self.middle << shift) / &divisor.middle;
        let exponent = self.exponent.checked_sub(divisor.exponent)?.checked_sub(shift as i64)?;
        // |a/b - m/n| <= (|a - m| + |m/n| |b - n|) / |b|, and the division drops less than one unit.
        let ratio = Magnitude::above(&quotient, exponent).add(Magnitude::power_of_two(exponent));
        let spread = self.radius.add(ratio.mul(divisor.radius)).div(least)?;
        let exact =
            self.radius.is_zero() && divisor.radius.is_zero() && &quotient * &divisor.middle == &self.middle << shift;
        let dropped = if exact { Magnitude::ZERO } else { Magnitude::power_of_two(exponent) };
        Self::rounded(quotient, exponent, spread.add(dropped), working)
    }

    /// The square root; `None` where the number may be negative.
    pub(crate) fn sqrt(&self, working: &Working) -> Option<Self> {
        match self.sign()? {
            Sign::NoSign => return Some(Self::zero()),
            Sign::Minus => return None,
            Sign::Plus => {}
        }
        working.fuel.burn_bits(working.bits * 16, working.bits)?;
        let mut shift = (2 * working.bits + 4).saturating_sub(self.middle.bits()) as i64;
        if (self.exponent - shift) % 2 != 0 {
            shift += 1;
        }
        let root = (&self.middle << shift).sqrt();
        let exponent = (self.exponent - shift) / 2;
        // |sqrt(a) - sqrt(m)| <= |a - m| / sqrt(m).
        let spread = self.radius.div(Magnitude::below(&root, exponent))?;
        Self::rounded(root, exponent, spread.add(Magnitude::power_of_two(exponent)), working)
    }

    /// The integer part towards minus infinity, where the ball settles it.
    pub(crate) fn floor(&self, working: &Working) -> Option<BigInt> {
        if self.top() > working.bits as i64 || !self.radius.at_most(Magnitude::power_of_two(-2)) {
            return None;
        }
        let below = if self.exponent >= 0 { &self.middle << self.exponent } else { &self.middle >> -self.exponent };
        let at = |value: BigInt| Self { middle: value, exponent: 0, radius: Magnitude::ZERO };
        let inside = self.sub(&at(below.clone()), working)?.sign()? == Sign::Plus
            && self.sub(&at(&below + 1), working)?.sign()? == Sign::Minus;
        inside.then_some(below)
    }
}
