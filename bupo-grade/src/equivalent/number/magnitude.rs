//! Upper and lower bounds of magnitudes: 32 bits and an exponent, rounded to the safe side.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

/// `mantissa * 2^exponent`, with a mantissa below `2^32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Magnitude {
    mantissa: u64,
    exponent: i64,
}

impl Magnitude {
    pub(crate) const ZERO: Self = Self { mantissa: 0, exponent: 0 };

    pub(crate) fn power_of_two(exponent: i64) -> Self {
        Self { mantissa: 1, exponent }
    }

    pub(crate) fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// At least `|value| * 2^exponent`.
    pub(crate) fn above(value: &BigInt, exponent: i64) -> Self {
        let bound = Self::below(value, exponent);
        if value.bits() <= 31 { bound } else { Self { mantissa: bound.mantissa + 1, ..bound } }
    }

    /// At most `|value| * 2^exponent`.
    pub(crate) fn below(value: &BigInt, exponent: i64) -> Self {
        let shift = value.bits().saturating_sub(31);
        let top = if shift == 0 { value.magnitude().to_u64() } else { (value.magnitude() >> shift).to_u64() };
        Self { mantissa: top.unwrap_or(0), exponent: exponent.saturating_add(shift as i64) }
    }

    /// At least the sum.
    pub(crate) fn add(self, other: Self) -> Self {
        if self.is_zero() {
            return other;
        }
        if other.is_zero() {
            return self;
        }
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let shift = high.exponent.saturating_sub(low.exponent);
        // `high` may have few bits and `low` many, so make room below before dropping.
        let room = shift.min(i64::from(high.mantissa.leading_zeros()) - 2).max(0);
        let (mantissa, exponent) = (high.mantissa << room, high.exponent - room);
        let rest = shift - room;
        let added = if rest > 62 { 1 } else { (low.mantissa >> rest) + 1 };
        Self { mantissa: mantissa + added, exponent }.rounded_up()
    }

    /// At least the product.
    pub(crate) fn mul(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return Self::ZERO;
        }
        let exponent = self.exponent.saturating_add(other.exponent);
        Self { mantissa: self.mantissa * other.mantissa, exponent }.rounded_up()
    }

    /// At least the quotient, given a lower bound of the divisor; `None` for a divisor that may be zero.
    pub(crate) fn div(self, divisor: Self) -> Option<Self> {
        if divisor.is_zero() {
            return None;
        }
        let mantissa = (self.mantissa << 31) / divisor.mantissa + 1;
        let exponent = self.exponent.saturating_sub(divisor.exponent).saturating_sub(31);
        Some(if self.is_zero() { Self::ZERO } else { Self { mantissa, exponent }.rounded_up() })
    }

    /// At most the difference, and at least zero.
    pub(crate) fn minus(self, other: Self) -> Self {
        if other.is_zero() {
            return self;
        }
        // Give the first all of its bits, so that a unit is small against it.
        let room = i64::from(self.mantissa.leading_zeros()) - 2;
        let (mantissa, exponent) = (self.mantissa << room, self.exponent - room);
        let shift = other.exponent.saturating_sub(exponent);
        let taken = if shift > 62 || (shift > 0 && i64::from(other.mantissa.leading_zeros()) <= shift) {
            return Self::ZERO;
        } else if shift >= 0 {
            other.mantissa << shift
        } else if shift < -62 {
            1
        } else {
            (other.mantissa >> -shift) + 1
        };
        let mut left = Self { mantissa: mantissa.saturating_sub(taken), exponent };
        while left.mantissa >> 32 != 0 {
            left = Self { mantissa: left.mantissa >> 1, exponent: left.exponent + 1 };
        }
        left
    }

    /// Whether this bound is at most `other`.
    pub(crate) fn at_most(self, other: Self) -> bool {
        if self.is_zero() || other.is_zero() {
            return self.is_zero();
        }
        let top = |bound: Self| bound.exponent.saturating_add(64 - i64::from(bound.mantissa.leading_zeros()));
        if top(self) != top(other) {
            return top(self) < top(other);
        }
        let aligned = |bound: Self| bound.mantissa << bound.mantissa.leading_zeros();
        aligned(self) <= aligned(other)
    }

    fn rounded_up(mut self) -> Self {
        while self.mantissa >> 32 != 0 {
            self.mantissa = (self.mantissa >> 1) + (self.mantissa & 1);
            self.exponent = self.exponent.saturating_add(1);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: i64, exponent: i64) -> Magnitude {
        Magnitude::above(&BigInt::from(value), exponent)
    }

    #[test]
    fn sums_and_products_are_bounds() {
        assert!(of(3, 0).at_most(of(1, 0).add(of(2, 0))));
        assert!(of(1, 100).at_most(of(1, 100).add(of(1, -100))));
        assert!(of(1_000_000_000_001, 0).at_most(of(1_000_000_000_000, 0).add(of(1, 0))));
        assert!(of(6, 5).at_most(of(2, 2).mul(of(3, 3))));
        assert!(of(2, 0).at_most(of(6, 0).div(of(3, 0)).unwrap()));
        assert!(of(6, 0).div(Magnitude::ZERO).is_none());
    }

    #[test]
    fn differences_are_lower_bounds() {
        let left = of(5, 0).minus(of(3, 0));
        assert!(left.at_most(of(2, 0)) && of(1, 0).at_most(left));
        assert!(of(3, 0).minus(of(5, 0)).is_zero());
        assert!(of(3, 0).minus(of(1, 200)).is_zero());
        assert!(!of(3, 0).minus(of(1, -200)).is_zero());
    }
}
