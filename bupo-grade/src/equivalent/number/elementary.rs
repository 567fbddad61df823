//! The exponential, the logarithm and the circular functions of balls, on fixed-point integers.

use std::sync::OnceLock;

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{One, ToPrimitive, Zero};

use super::ball::{Ball, Working};
use super::magnitude::Magnitude;

/// How many bits of pi and ln 2 are kept; working precision, guard bits and the bits of a large argument must fit.
const CONSTANT_BITS: u64 = 1536;
/// Arguments of 2^40 and more are not reduced.
const MOST_ARGUMENT: i64 = 40;

impl Ball {
    pub(crate) fn pi(working: &Working) -> Option<Self> {
        Self::rounded(pi(CONSTANT_BITS)?, -(CONSTANT_BITS as i64), unit(CONSTANT_BITS, 8), working)
    }

    pub(crate) fn exp(&self, working: &Working) -> Option<Self> {
        // e^(x + d) - e^x <= 2 d e^x while d <= 1.
        if self.top() > MOST_ARGUMENT || !self.radius.at_most(Magnitude::power_of_two(0)) {
            return None;
        }
        let halvings = halvings(working.bits);
        let bits = working.bits + 2 * halvings + 16;
        let wide = bits + MOST_ARGUMENT as u64;
        burn_series(working, bits)?;
        let (turns, rest) = fixed(self, wide).div_mod_floor(&ln2(wide)?);
        let power = exp_fixed(rest >> (wide - bits), bits, halvings);
        let exponent = turns.to_i64()? - bits as i64;
        let value = Magnitude::above(&power, exponent);
        let spread = value.mul(self.radius).mul(Magnitude::power_of_two(1));
        let error = Magnitude::power_of_two(exponent + halvings as i64 + 8);
        Self::rounded(power, exponent, spread.add(error), working)
    }

    /// The natural logarithm; `None` where the number may be zero or negative.
    pub(crate) fn ln(&self, working: &Working) -> Option<Self> {
        if self.sign()? != Sign::Plus {
            return None;
        }
        let halvings = halvings(working.bits);
        let bits = working.bits + 2 * halvings + 24;
        burn_series(working, bits)?;
        burn_series(working, bits)?;
        let top = self.top();
        // The number is `mantissa * 2^top` with a mantissa from 1/2 to 1.
        let mantissa = fixed(&Self { exponent: self.exponent - top, ..self.clone() }, bits);
        let start = (&mantissa >> (bits - 53)).to_f64()? / (1u64 << 53) as f64;
        let mut log = BigInt::from((start.ln() * (1u64 << 60) as f64) as i64);
        let mut have = 60;
        for accuracy in [150, 440, 1300] {
            let next = bits.min(accuracy + 2 * halvings + 24);
            log = shifted(log, next as i64 - have as i64);
            let power = exp_signed(&log, next, halvings)?;
            let goal = &mantissa >> (bits - next);
            log += ((&goal - &power) << (next + 1)) / (&goal + &power);
            have = next;
            if next == bits {
                break;
            }
        }
        let total = shifted(log, bits as i64 - have as i64) + ln2(bits)? * top;
        let spread = self.radius.div(self.least())?;
        let error = unit(bits, halvings + 16 + u64::from(top.unsigned_abs().ilog2_or_zero()));
        Self::rounded(total, -(bits as i64), spread.add(error), working)
    }

    pub(crate) fn sin_cos(&self, working: &Working) -> Option<(Self, Self)> {
        if self.top() > MOST_ARGUMENT {
            return None;
        }
        let halvings = halvings(working.bits);
        let bits = working.bits + 3 * halvings + 16;
        let wide = bits + MOST_ARGUMENT as u64;
        burn_series(working, bits)?;
        burn_series(working, bits)?;
        let quarter = pi(wide)? >> 1u32;
        let (turns, rest) = (fixed(self, wide) + (&quarter >> 1u32)).div_mod_floor(&quarter);
        let rest = (rest - (&quarter >> 1u32)) >> (wide - bits);
        let (sin, cos) = sin_cos_fixed(rest, bits, halvings);
        let (sin, cos) = match turns.mod_floor(&BigInt::from(4)).to_u8()? {
            0 => (sin, cos),
            1 => (cos, -sin),
            2 => (-sin, -cos),
            _ => (-cos, sin),
        };
        let radius = self.radius.add(unit(bits, 2 * halvings + 8));
        let ball = |value| Self::rounded(value, -(bits as i64), radius, working);
        Some((ball(sin)?, ball(cos)?))
    }

    pub(crate) fn atan(&self, working: &Working) -> Option<Self> {
        if self.top() > 1 {
            let inverse = Self::integer(1).div(self, working)?.atan(working)?;
            let quarter = Self::pi(working)?.mul(&Self { exponent: -1, ..Self::integer(1) }, working)?;
            let quarter = if self.middle.sign() == Sign::Minus { quarter.neg() } else { quarter };
            return quarter.sub(&inverse, working);
        }
        const REDUCTIONS: u32 = 5;
        let bits = working.bits + 24;
        burn_series(working, bits)?;
        burn_series(working, bits)?;
        let one = BigInt::one() << bits;
        let mut x = fixed(self, bits);
        for _ in 0..REDUCTIONS {
            // atan x = 2 atan(x / (1 + sqrt(1 + x^2)))
            let root = ((&one << bits) + &x * &x).sqrt();
            x = (x << bits) / (&one + root);
        }
        let square = (&x * &x) >> bits;
        let (mut sum, mut power, mut odd) = (BigInt::zero(), x, 1u32);
        while power.bits() > 1 {
            sum += &power / odd;
            power = -((power * &square) >> bits);
            odd += 2;
        }
        Self::rounded(sum << REDUCTIONS, -(bits as i64), self.radius.add(unit(bits, 18)), working)
    }
}

/// `2^slack` units of a fixed-point number with `bits` fractional bits.
fn unit(bits: u64, slack: u64) -> Magnitude {
    Magnitude::power_of_two(slack as i64 - bits as i64)
}

fn burn_series(working: &Working, bits: u64) -> Option<()> {
    // About 40 terms at 128 bits and 100 at 1152.
    working.fuel.burn((bits / 12 + 30).saturating_mul(20 + (bits / 64 + 1).pow(2)))
}

/// How often an argument is halved before its series is summed: as often as that saves more terms than it costs.
fn halvings(bits: u64) -> u64 {
    4 + bits.isqrt() / 3
}

fn fixed(ball: &Ball, bits: u64) -> BigInt {
    shifted(ball.middle.clone(), ball.exponent.saturating_add(bits as i64))
}

fn shifted(value: BigInt, by: i64) -> BigInt {
    if by >= 0 {
        value << by
    } else if by.unsigned_abs() > value.bits() + 1 {
        BigInt::zero()
    } else {
        value >> -by
    }
}

/// `e^x` for `0 <= x < 1`.
fn exp_fixed(x: BigInt, bits: u64, halvings: u64) -> BigInt {
    let x = x >> halvings;
    let one = BigInt::one() << bits;
    let (mut sum, mut term, mut n) = (one.clone() + &x, x.clone(), 2u32);
    while !term.is_zero() {
        term = ((term * &x) >> bits) / n;
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = (&sum * &sum) >> bits;
    }
    sum
}

/// `e^x` for `-1 < x <= 0` and a little above.
fn exp_signed(x: &BigInt, bits: u64, halvings: u64) -> Option<BigInt> {
    let (turns, rest) = x.div_mod_floor(&ln2(bits)?);
    Some(shifted(exp_fixed(rest, bits, halvings), turns.to_i64()?))
}

/// The sine and cosine of `-1 < x < 1`.
fn sin_cos_fixed(x: BigInt, bits: u64, halvings: u64) -> (BigInt, BigInt) {
    let x = x >> halvings;
    let square = (&x * &x) >> bits;
    let series = |first: BigInt, mut n: u32| {
        let (mut sum, mut term) = (first.clone(), first);
        while term.bits() > 1 {
            term = -(((term * &square) >> bits) / (n * (n + 1)));
            sum += &term;
            n += 2;
        }
        sum
    };
    let (mut sin, mut cos) = (series(x.clone(), 2), series(BigInt::one() << bits, 1));
    for _ in 0..halvings {
        let doubled = (&sin * &cos) >> (bits - 1);
        cos = (&cos * &cos - &sin * &sin) >> bits;
        sin = doubled;
    }
    (sin, cos)
}

fn pi(bits: u64) -> Option<BigInt> {
    static PI: OnceLock<BigInt> = OnceLock::new();
    // Machin: pi = 16 atan(1/5) - 4 atan(1/239).
    let value = PI.get_or_init(|| (inverse_series(5, -1) * 16 - inverse_series(239, -1) * 4) >> GUARD);
    (bits <= CONSTANT_BITS).then(|| value >> (CONSTANT_BITS - bits))
}

fn ln2(bits: u64) -> Option<BigInt> {
    static LN2: OnceLock<BigInt> = OnceLock::new();
    // ln 2 = 2 atanh(1/3).
    let value = LN2.get_or_init(|| (inverse_series(3, 1) * 2) >> GUARD);
    (bits <= CONSTANT_BITS).then(|| value >> (CONSTANT_BITS - bits))
}

const GUARD: u64 = 32;

/// `atan(1/n)` for `sign` -1 and `atanh(1/n)` for `sign` 1, with `GUARD` bits more than are kept.
fn inverse_series(n: u32, sign: i32) -> BigInt {
    let mut power = (BigInt::one() << (CONSTANT_BITS + GUARD)) / n;
    let (mut sum, mut odd) = (BigInt::zero(), 1u32);
    while power.bits() > 1 {
        sum += &power / odd;
        power = power / (n * n) * sign;
        odd += 2;
    }
    sum
}

trait Log2 {
    fn ilog2_or_zero(self) -> u32;
}

impl Log2 for u64 {
    fn ilog2_or_zero(self) -> u32 {
        self.checked_ilog2().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuel::Fuel;
    use super::*;

    fn near(ball: &Ball, expected: f64) {
        let surplus = ball.middle.bits().saturating_sub(60);
        let top = (&ball.middle >> surplus).to_f64().unwrap();
        let value = top * 2f64.powi((ball.exponent + surplus as i64) as i32);
        assert!((value - expected).abs() <= 1e-14 * expected.abs().max(1.0), "{value} is not {expected}");
    }

    #[test]
    fn functions_agree_with_the_machine_and_with_their_inverses() {
        let fuel = Fuel::new(u64::MAX);
        for bits in [96, 128, 512, 1152] {
            let working = Working { bits, fuel: &fuel };
            for (numerator, exponent) in [(1, 0), (3, -2), (7, -3), (1, -40), (355, 0), (12_345, -4), (1, 20)] {
                let x = Ball { exponent, ..Ball::integer(numerator) };
                let value = numerator as f64 * 2f64.powi(exponent as i32);
                near(&x.ln(&working).unwrap(), value.ln());
                near(&x.atan(&working).unwrap(), value.atan());
                near(&x.neg().atan(&working).unwrap(), -value.atan());
                let (sin, cos) = x.sin_cos(&working).unwrap();
                near(&sin, value.sin());
                near(&cos, value.cos());
                if value < 700.0 {
                    near(&x.neg().exp(&working).unwrap(), (-value).exp());
                }
                // The error that is claimed must hold and must be small.
                let back = x.ln(&working).unwrap().exp(&working).unwrap().sub(&x, &working).unwrap();
                assert!(back.sign().is_none(), "exp(ln x) is not x at {bits} bits");
                assert!(back.radius.at_most(Magnitude::power_of_two(x.top() + 48 - bits as i64)));
                let one = sin.mul(&sin, &working).unwrap().add(&cos.mul(&cos, &working).unwrap(), &working).unwrap();
                let off = one.sub(&Ball::integer(1), &working).unwrap();
                assert!(off.sign().is_none(), "sin^2 + cos^2 is not 1 at {bits} bits");
                let tangent = sin.div(&cos, &working).unwrap().atan(&working).unwrap();
                let turns = x.sub(&tangent, &working).unwrap().div(&Ball::pi(&working).unwrap(), &working).unwrap();
                let whole = turns.add(&Ball { exponent: -1, ..Ball::integer(1) }, &working).unwrap();
                let whole = Ball { middle: whole.floor(&working).unwrap(), ..Ball::zero() };
                assert!(turns.sub(&whole, &working).unwrap().sign().is_none_or(|sign| sign == Sign::NoSign));
            }
            near(&Ball::pi(&working).unwrap(), std::f64::consts::PI);
        }
    }
}
