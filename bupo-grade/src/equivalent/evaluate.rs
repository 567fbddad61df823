//! The value of a formula at a point.

use std::cell::{Cell, RefCell};

use super::number::{Exact, Function, Number, Verdict, Working};
use super::tree::{Constant, Expr};

/// Where a formula is evaluated, and how its ambiguous signs are read.
pub(super) struct Place<'a> {
    pub(super) working: Working<'a>,
    /// Which point; each gives every variable another value.
    pub(super) point: u64,
    pub(super) sampling: Sampling,
    /// Whether a root, a power or a logarithm of real numbers was not real.
    pub(super) left_reals: Cell<bool>,
    pub(super) whole: &'a Whole,
    pub(super) convention: Convention,
    /// The indices of the sums that are being added up.
    pub(super) bound: RefCell<Vec<(String, Number)>>,
    /// Values given to functions that nothing is known of.
    pub(super) oracle: RefCell<Vec<(String, Vec<Number>, Number)>>,
}

/// Which values variables take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sampling {
    Positive,
    /// Real numbers of both signs.
    Signed,
    /// Real numbers far from zero, all of one sign at the first two points.
    Far,
    /// `z` and `w` are complex, the others real.
    Complex,
}

/// The variables of a formula that stand for whole numbers.
#[derive(Default)]
pub(super) struct Whole {
    pub(super) names: Vec<String>,
    /// Those among them that count something, as in `n!`.
    pub(super) counts: Vec<String>,
}

/// What a sign means that people read in more than one way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Convention {
    /// A degree is 1, not pi/180, outside of trigonometric functions.
    pub(super) bare_degrees: bool,
    /// A percent is 1, not 1/100.
    pub(super) bare_percent: bool,
    /// A logarithm without a base is decimal, not natural.
    pub(super) decimal_log: bool,
}

/// How many times further out the points are that look for bends.
const FAR: i64 = 1 << 12;
/// Different arguments of unknown functions, at most.
const MOST_UNKNOWN: usize = 32;

/// The value of `expr`; `None` where it has none, or none that can be settled.
pub(super) fn evaluate(expr: &Expr, place: &Place) -> Option<Number> {
    value(expr, place, false)
}

fn value(expr: &Expr, place: &Place, angle: bool) -> Option<Number> {
    let found = plain_value(expr, place, angle)?;
    if found.is_unreal() && matches!(expr, Expr::Root(..) | Expr::Power(..) | Expr::Call(..) | Expr::Logarithm(..)) {
        place.left_reals.set(true);
    }
    Some(found)
}

/// Every kind of formula has a function of its own, so that a level of recursion takes little of the stack.
fn plain_value(expr: &Expr, place: &Place, angle: bool) -> Option<Number> {
    place.working.fuel.burn(100)?;
    match expr {
        Expr::Number(number) => Some(Number::Exact(number.clone())),
        Expr::Constant(constant) => constant_value(*constant, place, angle),
        Expr::Variable(name) => place.variable(name),
        Expr::Sum(parts) => sum(parts, place, angle),
        Expr::Product(parts) => product(parts, place, angle),
        Expr::Negative(part) => value(part, place, angle).map(|value| value.neg()),
        Expr::Quotient(above, below) => value(above, place, angle)?.div(&value(below, place, angle)?, &place.working),
        Expr::Power(base, exponent) => power(base, exponent, place, angle),
        Expr::Root(radicand, degree) => root(radicand, degree, place, angle),
        Expr::Call(function, part) => call(*function, part, place, angle),
        Expr::Logarithm(base, part) => logarithm(base, part, place, angle),
        Expr::Binomial(upper, lower) => binomial(upper, lower, place, angle),
        Expr::Series { product, index, bounds, body } => series(*product, index, bounds, body, place),
        Expr::Apply(name, parts) => {
            let arguments = parts.iter().map(|part| value(part, place, angle)).collect::<Option<Vec<_>>>()?;
            place.unknown(name, arguments)
        }
        // Both signs are compared one by one before a value is asked for.
        Expr::PlusMinus { .. } => None,
    }
}

fn constant_value(constant: Constant, place: &Place, angle: bool) -> Option<Number> {
    let working = &place.working;
    match constant {
        Constant::Pi => Number::pi(working),
        Constant::E => Number::from(1).exp(working),
        // `i` may be the index of a sum.
        Constant::I => place.index("i").or_else(|| Some(Number::imaginary_unit())),
        Constant::Infinity => None,
        Constant::Degree if place.convention.bare_degrees && !angle => Some(1.into()),
        Constant::Degree => Number::pi(working)?.div(&180.into(), working),
        Constant::Percent if place.convention.bare_percent => Some(1.into()),
        Constant::Percent => Number::from(1).div(&100.into(), working),
    }
}

fn sum(parts: &[Expr], place: &Place, angle: bool) -> Option<Number> {
    let zero = Number::from(0);
    parts.iter().try_fold(zero, |sum, part| sum.add(&value(part, place, angle)?, &place.working))
}

fn product(parts: &[Expr], place: &Place, angle: bool) -> Option<Number> {
    let one = Number::from(1);
    parts.iter().try_fold(one, |product, part| product.mul(&value(part, place, angle)?, &place.working))
}

fn root(radicand: &Expr, degree: &Expr, place: &Place, angle: bool) -> Option<Number> {
    let (radicand, degree) = (value(radicand, place, angle)?, value(degree, place, angle)?);
    match degree.exact().and_then(Exact::to_i64) {
        Some(2) => radicand.sqrt(&place.working),
        _ => radicand.pow(&Number::from(1).div(&degree, &place.working)?, true, &place.working),
    }
}

fn call(function: Function, part: &Expr, place: &Place, angle: bool) -> Option<Number> {
    let working = &place.working;
    let argument = value(part, place, angle || function.is_circular())?;
    match function {
        Function::Log if place.convention.decimal_log => {
            argument.ln(working)?.div(&Number::from(10).ln(working)?, working)
        }
        Function::Factorial => function.apply(&argument, working).or_else(|| place.unknown("!", vec![argument])),
        _ => function.apply(&argument, working),
    }
}

fn logarithm(base: &Expr, part: &Expr, place: &Place, angle: bool) -> Option<Number> {
    let (base, argument) = (value(base, place, angle)?, value(part, place, angle)?);
    argument.ln(&place.working)?.div(&base.ln(&place.working)?, &place.working)
}

fn binomial(upper: &Expr, lower: &Expr, place: &Place, angle: bool) -> Option<Number> {
    let (upper, lower) = (value(upper, place, angle)?, value(lower, place, angle)?);
    let exact = match (upper.exact(), lower.exact()) {
        (Some(upper), Some(lower)) => upper.binomial(lower, place.working.fuel),
        _ => None,
    };
    exact.map(Number::Exact).or_else(|| place.unknown("binom", vec![upper, lower]))
}

/// Terms of a sum, at most.
const MOST_TERMS: i64 = 400;

/// A finite sum or product.
fn series(product: bool, index: &str, bounds: &(Expr, Expr), body: &Expr, place: &Place) -> Option<Number> {
    let whole = |bound: &Expr| value(bound, place, false)?.exact()?.to_i64();
    let (first, last) = (whole(&bounds.0)?, whole(&bounds.1)?);
    if last.checked_sub(first)? > MOST_TERMS {
        return None;
    }
    let mut total = Number::from(i64::from(product));
    for at in first..=last {
        place.bound.borrow_mut().push((index.to_owned(), at.into()));
        let term = value(body, place, false);
        place.bound.borrow_mut().pop();
        total = if product { total.mul(&term?, &place.working)? } else { total.add(&term?, &place.working)? };
    }
    Some(total)
}

fn power(base: &Expr, exponent: &Expr, place: &Place, angle: bool) -> Option<Number> {
    let working = &place.working;
    let degree = value(exponent, place, angle)?;
    if *base == Expr::Constant(Constant::E) {
        return degree.exp(working);
    }
    // A written fraction with an odd denominator means the real root; elsewhere powers are principal.
    let written = exponent.is_closed();
    value(base, place, angle)?.pow(&degree, written, working)
}

impl Place<'_> {
    fn variable(&self, name: &str) -> Option<Number> {
        let seed = hash(name, self.point);
        if let Some(index) = self.index(name) {
            return Some(index);
        }
        if let Some(conjugated @ ("z" | "w")) = name.strip_prefix("bar ") {
            return Some(self.variable(conjugated)?.conjugate());
        }
        let among = |names: &[String]| names.iter().any(|other| other == name);
        let counts = among(&self.whole.counts);
        let far = self.sampling == Sampling::Far;
        let negative = !counts
            && match (self.sampling, self.point % 100) {
                (Sampling::Positive, _) | (Sampling::Far, 0) => false,
                (Sampling::Far, 1) => true,
                _ => seed & 1 == 0,
            };
        let size = if counts || among(&self.whole.names) {
            // `n` is above `k`, as in a binomial.
            let large = matches!(name, "n" | "N" | "M");
            let start = if large { 30 } else { 3 };
            Number::from(start + (seed >> 8) as i64 % if large { 60 } else { 26 })
        } else {
            let part = |bits: u64| ((seed >> bits) & 0xf_ffff) as i64 * 2 + 1;
            Number::from(part(4)).div(&(part(28) / 2 + (1 << 17)).into(), &self.working)?
        };
        let size = if far && !counts { size.mul(&FAR.into(), &self.working)? } else { size };
        let size = if negative { size.neg() } else { size };
        if self.sampling == Sampling::Complex && matches!(name, "z" | "w") {
            let height = Number::from((seed >> 50) as i64 + 1).div(&(1 << 12).into(), &self.working)?;
            return size.add(&Number::imaginary_unit().mul(&height, &self.working)?, &self.working);
        }
        Some(size)
    }

    /// The value of an index of a sum that is being added up.
    fn index(&self, name: &str) -> Option<Number> {
        self.bound.borrow().iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    /// The value of a function that nothing is known of: any, but the same for the same arguments.
    fn unknown(&self, name: &str, arguments: Vec<Number>) -> Option<Number> {
        let mut known = self.oracle.borrow_mut();
        for (other, theirs, value) in known.iter() {
            if other == name && theirs.len() == arguments.len() {
                let mut same = true;
                for (mine, theirs) in arguments.iter().zip(theirs) {
                    same = same && mine.compare(theirs, &self.working)? == Verdict::Same;
                }
                if same {
                    return Some(value.clone());
                }
            }
        }
        if known.len() == MOST_UNKNOWN {
            return None;
        }
        let seed = hash(name, self.point ^ ((known.len() as u64 + 1) << 32));
        let value = Number::from((seed & 0xf_ffff) as i64 * 2 + 1).div(&(1 << 19).into(), &self.working)?;
        known.push((name.to_owned(), arguments, value.clone()));
        Some(value)
    }
}

/// FNV-1a, then mixed.
fn hash(name: &str, salt: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let sum = name.bytes().fold(start, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (sum ^ (sum >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}
