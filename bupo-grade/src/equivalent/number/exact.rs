//! Rational numbers of bounded size.
//!
//! Own code: the operations of `num-rational` have no bound on their size or their work.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::fuel::Fuel;

/// The largest integer, and the largest numerator or denominator of a fraction, in bits.
const INTEGER_BITS: u64 = 1 << 16;
const FRACTION_BITS: u64 = 1 << 13;
/// Factorials and binomials are computed up to this argument.
const MOST_FACTORS: u64 = 4000;

/// A reduced fraction with a positive denominator. Operations answer `None` for results that are undefined or too large.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Exact {
    numerator: BigInt,
    denominator: BigInt,
}

impl From<i64> for Exact {
    fn from(value: i64) -> Self {
        Self { numerator: value.into(), denominator: BigInt::one() }
    }
}

impl Exact {
    pub(crate) fn integer(value: BigInt) -> Option<Self> {
        (value.bits() <= INTEGER_BITS).then(|| Self { numerator: value, denominator: BigInt::one() })
    }

    pub(crate) fn ratio(numerator: BigInt, denominator: BigInt, fuel: &Fuel) -> Option<Self> {
        if denominator.is_zero() {
            return None;
        }
        if denominator.is_one() {
            return Self::integer(numerator);
        }
        let (long, short) = (numerator.bits().max(denominator.bits()), numerator.bits().min(denominator.bits()));
        if long > INTEGER_BITS {
            return None;
        }
        // One division, then a binary gcd of what is left.
        fuel.burn_bits(long, short)?;
        fuel.burn(short.saturating_mul(short / 64 + 1))?;
        let divisor = gcd(&numerator, &denominator);
        let sign = if denominator.is_negative() { -divisor } else { divisor };
        let (numerator, denominator) =
            if sign.is_one() { (numerator, denominator) } else { (numerator / &sign, denominator / &sign) };
        let limit = if denominator.is_one() { INTEGER_BITS } else { FRACTION_BITS };
        (numerator.bits().max(denominator.bits()) <= limit).then_some(Self { numerator, denominator })
    }

    pub(crate) fn numerator(&self) -> &BigInt {
        &self.numerator
    }

    pub(crate) fn denominator(&self) -> &BigInt {
        &self.denominator
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.numerator.is_zero()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.numerator.is_negative()
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.denominator.is_one()
    }

    pub(crate) fn is_one(&self) -> bool {
        self.numerator.is_one() && self.denominator.is_one()
    }

    pub(crate) fn to_i64(&self) -> Option<i64> {
        if self.is_integer() { self.numerator.to_i64() } else { None }
    }

    pub(crate) fn neg(&self) -> Self {
        Self { numerator: -&self.numerator, denominator: self.denominator.clone() }
    }

    pub(crate) fn abs(&self) -> Self {
        if self.is_negative() { self.neg() } else { self.clone() }
    }

    pub(crate) fn floor(&self) -> Self {
        Self { numerator: self.numerator.div_floor(&self.denominator), denominator: BigInt::one() }
    }

    pub(crate) fn add(&self, other: &Self, fuel: &Fuel) -> Option<Self> {
        if self.is_integer() && other.is_integer() {
            fuel.burn_bits(self.bits(), 0)?;
            return Self::integer(&self.numerator + &other.numerator);
        }
        fuel.burn_bits(self.bits(), other.bits())?;
        let numerator = &self.numerator * &other.denominator + &other.numerator * &self.denominator;
        Self::ratio(numerator, &self.denominator * &other.denominator, fuel)
    }

    pub(crate) fn mul(&self, other: &Self, fuel: &Fuel) -> Option<Self> {
        fuel.burn_bits(self.bits(), other.bits())?;
        Self::ratio(&self.numerator * &other.numerator, &self.denominator * &other.denominator, fuel)
    }

    pub(crate) fn recip(&self) -> Option<Self> {
        let (numerator, denominator) = match self.numerator.sign() {
            num_bigint::Sign::NoSign => return None,
            num_bigint::Sign::Plus => (self.denominator.clone(), self.numerator.clone()),
            num_bigint::Sign::Minus => (-&self.denominator, -&self.numerator),
        };
        let limit = if denominator.is_one() { INTEGER_BITS } else { FRACTION_BITS };
        (numerator.bits().max(denominator.bits()) <= limit).then_some(Self { numerator, denominator })
    }

    pub(crate) fn pow(&self, exponent: i64, fuel: &Fuel) -> Option<Self> {
        if exponent < 0 {
            return self.pow(exponent.checked_neg()?, fuel)?.recip();
        }
        if self.is_zero() || (self.is_integer() && self.numerator.magnitude().is_one()) {
            let negative = self.is_negative() && exponent % 2 == 0;
            return Some(if exponent == 0 || negative { 1.into() } else { self.clone() });
        }
        let exponent = u32::try_from(exponent).ok()?;
        let bits = self.bits().checked_mul(u64::from(exponent))?;
        let limit = if self.is_integer() { INTEGER_BITS } else { FRACTION_BITS };
        if bits > limit + 64 {
            return None;
        }
        fuel.burn_bits(bits, bits)?;
        let power = Self { numerator: self.numerator.pow(exponent), denominator: self.denominator.pow(exponent) };
        (power.bits() <= limit).then_some(power)
    }

    /// The `degree`-th root of a number that is not negative, where it is rational.
    pub(crate) fn root(&self, degree: u32, fuel: &Fuel) -> Option<Self> {
        if self.is_negative() || degree == 0 || degree > 64 {
            return None;
        }
        let bits = self.bits();
        fuel.burn_bits(bits * 8, bits)?;
        let root = Self { numerator: self.numerator.nth_root(degree), denominator: self.denominator.nth_root(degree) };
        let exact = root.numerator.pow(degree) == self.numerator && root.denominator.pow(degree) == self.denominator;
        exact.then_some(root)
    }

    pub(crate) fn factorial(&self, fuel: &Fuel) -> Option<Self> {
        let last = self.to_i64().and_then(|n| u64::try_from(n).ok()).filter(|n| *n <= MOST_FACTORS)?;
        Self::integer(product(2, last, fuel)?)
    }

    /// `n (n - 2) (n - 4) ...`
    pub(crate) fn double_factorial(&self, fuel: &Fuel) -> Option<Self> {
        let last = self.to_i64().and_then(|n| u64::try_from(n).ok()).filter(|n| *n <= 400)?;
        let mut product = Self::from(1);
        for factor in (1..=last).rev().step_by(2) {
            product = product.mul(&i64::try_from(factor).ok()?.into(), fuel)?;
        }
        Some(product)
    }

    /// `self` over `lower`, for integers with `0 <= lower`.
    pub(crate) fn binomial(&self, lower: &Self, fuel: &Fuel) -> Option<Self> {
        let (n, k) = (self.to_i64()?, lower.to_i64()?);
        if k < 0 || n < 0 {
            return None;
        }
        if k > n {
            return Some(0.into());
        }
        let (n, k) = (n.unsigned_abs(), k.min(n - k).unsigned_abs());
        if k > MOST_FACTORS || n > 1 << 40 {
            return None;
        }
        let (above, below) = (product(n - k + 1, n, fuel)?, product(2, k, fuel)?);
        fuel.burn_bits(above.bits(), below.bits())?;
        Self::integer(above / below)
    }

    pub(crate) fn bits(&self) -> u64 {
        self.numerator.bits().max(self.denominator.bits())
    }
}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Exact {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.numerator * &other.denominator).cmp(&(&other.numerator * &self.denominator))
    }
}

/// One long division first, so that a short operand makes the rest short: the binary algorithm alone would subtract a
/// small number from a large one bit by bit.
fn gcd(a: &BigInt, b: &BigInt) -> BigInt {
    let (long, short) = if a.bits() > b.bits() { (a, b) } else { (b, a) };
    if short.is_zero() { long.abs() } else { (long % short).gcd(short) }
}

/// The product of the integers from `first` to `last`, by halves.
fn product(first: u64, last: u64, fuel: &Fuel) -> Option<BigInt> {
    if last < first {
        return Some(BigInt::one());
    }
    if last - first < 8 {
        fuel.burn(40)?;
        return Some((first..=last).fold(BigInt::one(), |product, factor| product * factor));
    }
    let middle = first + (last - first) / 2;
    let (low, high) = (product(first, middle, fuel)?, product(middle + 1, last, fuel)?);
    fuel.burn_bits(low.bits(), high.bits())?;
    (low.bits() + high.bits() <= INTEGER_BITS + 64).then(|| low * high)
}
