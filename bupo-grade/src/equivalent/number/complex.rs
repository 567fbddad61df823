//! Complex numbers as pairs of balls.

use num_bigint::Sign;

use super::ball::{Ball, Working};
use super::magnitude::Magnitude;

#[derive(Clone, Debug)]
pub(crate) struct Complex {
    pub(crate) re: Ball,
    pub(crate) im: Ball,
}

impl Complex {
    pub(crate) fn real(re: Ball) -> Self {
        Self { re, im: Ball::zero() }
    }

    /// The real part of a number that is certainly real.
    pub(crate) fn as_real(&self) -> Option<&Ball> {
        self.im.is_exact_zero().then_some(&self.re)
    }

    /// A lower bound of the absolute value.
    pub(crate) fn least(&self) -> Magnitude {
        let (re, im) = (self.re.least(), self.im.least());
        if re.at_most(im) { im } else { re }
    }

    pub(crate) fn neg(&self) -> Self {
        Self { re: self.re.neg(), im: self.im.neg() }
    }

    pub(crate) fn add(&self, other: &Self, working: &Working) -> Option<Self> {
        Some(Self { re: self.re.add(&other.re, working)?, im: self.im.add(&other.im, working)? })
    }

    pub(crate) fn mul(&self, other: &Self, working: &Working) -> Option<Self> {
        let re = self.re.mul(&other.re, working)?.sub(&self.im.mul(&other.im, working)?, working)?;
        let im = self.re.mul(&other.im, working)?.add(&self.im.mul(&other.re, working)?, working)?;
        Some(Self { re, im })
    }

    pub(crate) fn div(&self, divisor: &Self, working: &Working) -> Option<Self> {
        if let Some(real) = divisor.as_real() {
            let im = if self.im.is_exact_zero() { Ball::zero() } else { self.im.div(real, working)? };
            return Some(Self { re: self.re.div(real, working)?, im });
        }
        let norm = divisor.norm(working)?;
        let product = self.mul(&Self { re: divisor.re.clone(), im: divisor.im.neg() }, working)?;
        Some(Self { re: product.re.div(&norm, working)?, im: product.im.div(&norm, working)? })
    }

    pub(crate) fn abs(&self, working: &Working) -> Option<Ball> {
        match self.as_real() {
            Some(real) => Some(real.abs()),
            None => self.norm(working)?.sqrt(working),
        }
    }

    /// The principal root.
    pub(crate) fn sqrt(&self, working: &Working) -> Option<Self> {
        if let Some(real) = self.as_real() {
            return Some(match real.sign()? {
                Sign::Minus => Self { re: Ball::zero(), im: real.neg().sqrt(working)? },
                _ => Self::real(real.sqrt(working)?),
            });
        }
        let half = Ball::integer(1).div(&Ball::integer(2), working)?;
        let abs = self.abs(working)?;
        if self.re.sign() == Some(Sign::Minus) {
            // Away from the cancellation in |z| + re.
            let size = abs.sub(&self.re, working)?.mul(&half, working)?.sqrt(working)?;
            let im = if self.im.sign()? == Sign::Minus { size.neg() } else { size };
            let re = self.im.mul(&half, working)?.div(&im, working)?;
            return Some(Self { re, im });
        }
        let re = abs.add(&self.re, working)?.mul(&half, working)?.sqrt(working)?;
        let im = self.im.mul(&half, working)?.div(&re, working)?;
        Some(Self { re, im })
    }

    pub(crate) fn exp(&self, working: &Working) -> Option<Self> {
        if self.im.is_exact_zero() {
            return Some(Self::real(self.re.exp(working)?));
        }
        let (sin, cos) = self.im.sin_cos(working)?;
        let size = self.re.exp(working)?;
        Some(Self { re: size.mul(&cos, working)?, im: size.mul(&sin, working)? })
    }

    /// The principal logarithm.
    pub(crate) fn ln(&self, working: &Working) -> Option<Self> {
        Some(Self { re: self.abs(working)?.ln(working)?, im: self.arg(working)? })
    }

    /// The argument, above `-pi` and up to `pi`; `None` where it is not settled, as on both sides of the cut.
    pub(crate) fn arg(&self, working: &Working) -> Option<Ball> {
        let half_turn = || Ball::pi(working)?.div(&Ball::integer(2), working);
        match (self.re.sign(), self.im.sign()) {
            (Some(Sign::Plus), Some(Sign::NoSign)) => Some(Ball::zero()),
            (Some(Sign::Plus), _) => self.im.div(&self.re, working)?.atan(working),
            (Some(Sign::Minus), Some(Sign::NoSign)) => Ball::pi(working),
            (_, Some(Sign::Plus)) => half_turn()?.sub(&self.re.div(&self.im, working)?.atan(working)?, working),
            (_, Some(Sign::Minus)) => half_turn()?.neg().sub(&self.re.div(&self.im, working)?.atan(working)?, working),
            _ => None,
        }
    }

    fn norm(&self, working: &Working) -> Option<Ball> {
        self.re.mul(&self.re, working)?.add(&self.im.mul(&self.im, working)?, working)
    }
}
