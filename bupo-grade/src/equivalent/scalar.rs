//! Decides whether two formulas are the same.

use std::cell::{Cell, RefCell};

use num_bigint::Sign;

use super::evaluate::{Convention, Place, Sampling, Whole, evaluate};
use super::number::{Fuel, Function, Number, Verdict, Working};
use super::tree::{Constant, Expr};

/// The precision at which most differences show, and the one that two numbers must agree to.
const FIRST_BITS: u64 = 128;
const LAST_BITS: u64 = 1152;
/// Points where all variables are positive, and points where they are not.
const POSITIVE_POINTS: u64 = 3;
const SIGNED_POINTS: u64 = 3;
/// Points far from zero, for formulas that may bend there.
const FAR_POINTS: u64 = 4;

/// Whether `a` and `b` have the same value wherever they are defined.
pub(super) fn same(a: &Expr, b: &Expr, fuel: &Fuel) -> bool {
    a == b || same_by(a, b, conventions(a, b), fuel)
}

/// The same, with degrees and percents for what they are.
pub(super) fn same_literally(a: &Expr, b: &Expr, fuel: &Fuel) -> bool {
    a == b || same_by(a, b, vec![Convention::default()], fuel)
}

fn same_by(a: &Expr, b: &Expr, conventions: Vec<Convention>, fuel: &Fuel) -> bool {
    match (a.infinity(), b.infinity()) {
        (None, None) => {}
        (a, b) => return a == b,
    }
    if transposes(a) || transposes(b) {
        // Products of matrices do not commute.
        return false;
    }
    conventions.into_iter().any(|convention| Comparison::new(&[a, b], convention, fuel).is_same(a, b))
}

/// Whether `a` is `b` times a number that is not zero, or that is positive where `ordered`.
pub(super) fn proportional(a: &Expr, b: &Expr, ordered: bool, fuel: &Fuel) -> bool {
    if transposes(a) || transposes(b) {
        return a == b;
    }
    Comparison::new(&[a, b], Convention::default(), fuel).is_proportional(a, b, ordered).unwrap_or(false)
}

/// The sign of `a - b`, for numbers whose difference is not zero.
pub(super) fn order(a: &Expr, b: &Expr, fuel: &Fuel) -> Option<Sign> {
    let comparison = Comparison::new(&[a, b], Convention::default(), fuel);
    let place = comparison.place(0, Sampling::Positive, FIRST_BITS);
    evaluate(a, &place)?.sub(&evaluate(b, &place)?, &place.working)?.sign().filter(|sign| *sign != Sign::NoSign)
}

/// The readings of degrees, percents and logarithms under which `a` and `b` may agree.
fn conventions(a: &Expr, b: &Expr) -> Vec<Convention> {
    let one_has = |constant: Constant| outside_angles(a, constant) != outside_angles(b, constant);
    let choices = |open: bool| if open { vec![false, true] } else { vec![false] };
    let log = |expr: &Expr| expr.any(&mut |part| matches!(part, Expr::Call(Function::Log, _)));
    let mut all = Vec::new();
    for bare_degrees in choices(one_has(Constant::Degree)) {
        // Both at once would make `50\%` and `50^\circ` one.
        for bare_percent in choices(one_has(Constant::Percent) && !bare_degrees) {
            for decimal_log in choices(log(a) || log(b)) {
                all.push(Convention { bare_degrees, bare_percent, decimal_log });
            }
        }
    }
    all
}

/// Whether `constant` occurs elsewhere than in the argument of a trigonometric function.
pub(super) fn outside_angles(expr: &Expr, constant: Constant) -> bool {
    match expr {
        Expr::Constant(found) => *found == constant,
        Expr::Call(function, _) if function.is_circular() => false,
        other => other.children().into_iter().any(|child| outside_angles(child, constant)),
    }
}

/// Whether the formula speaks of transposed or conjugated matrices.
fn transposes(expr: &Expr) -> bool {
    let upper = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase());
    let mut matrices = 0;
    let mut inverse = false;
    let transposed = expr.any(&mut |part| match part {
        Expr::Variable(name) => {
            matrices += usize::from(upper(name));
            name.ends_with("^top") || name.ends_with("^dagger") || name.contains("^Mark('*')")
        }
        Expr::Power(base, exponent) => {
            let symbol = matches!(&**base, Expr::Variable(_) | Expr::Product(_));
            inverse |=
                matches!(&**base, Expr::Variable(name) if upper(name)) && **exponent == Expr::integer(1).negative();
            symbol && matches!(&**exponent, Expr::Variable(name) if name == "T")
        }
        _ => false,
    });
    transposed || (inverse && matrices > 1)
}

struct Comparison<'a> {
    fuel: &'a Fuel,
    convention: Convention,
    whole: Whole,
    closed: bool,
    /// Whether an absolute value makes signs matter.
    signs_matter: bool,
    /// Whether complex variables are conjugated, or split into parts.
    conjugates: bool,
    /// Whether an absolute value, a root or a rounding may change its course far out: `|x - 100|`.
    bends: bool,
}

impl<'a> Comparison<'a> {
    fn new(formulas: &[&Expr], convention: Convention, fuel: &'a Fuel) -> Self {
        let closed = formulas.iter().all(|formula| formula.is_closed());
        let mut whole = Whole::default();
        let (mut signs_matter, mut conjugates, mut bends) = (false, false, false);
        for formula in formulas.iter().filter(|_| !closed) {
            formula.any(&mut |part| {
                bends |= match part {
                    Expr::Call(Function::Abs | Function::Floor | Function::Ceil, inside) => !inside.is_closed(),
                    Expr::Root(inside, _) => !inside.is_closed(),
                    _ => false,
                };
                match part {
                    Expr::Variable(name) if matches!(name.as_str(), "n" | "m" | "k" | "j" | "l" | "N" | "M") => {
                        whole.names.push(name.clone());
                    }
                    Expr::Call(Function::Factorial | Function::DoubleFactorial, _)
                    | Expr::Binomial(..)
                    | Expr::Series { .. } => collect_variables(part, &mut whole.counts),
                    Expr::Call(Function::Abs | Function::Re | Function::Im | Function::Arg, inside)
                        if !inside.is_closed() =>
                    {
                        signs_matter = true;
                        conjugates |=
                            inside.any(&mut |part| matches!(part, Expr::Variable(name) if name == "z" || name == "w"));
                    }
                    Expr::Variable(name) if name == "bar z" || name == "bar w" => conjugates = true,
                    _ => {}
                }
                false
            });
        }
        Self { fuel, convention, whole, closed, signs_matter, conjugates, bends }
    }

    fn place(&self, point: u64, sampling: Sampling, bits: u64) -> Place<'_> {
        let working = Working { bits, fuel: self.fuel };
        let (whole, convention) = (&self.whole, self.convention);
        Place {
            working,
            point,
            sampling,
            left_reals: Cell::new(false),
            whole,
            convention,
            oracle: RefCell::default(),
            bound: RefCell::default(),
        }
    }

    fn is_same(&self, a: &Expr, b: &Expr) -> bool {
        if self.closed {
            return self.settled(a, b, 0) == Some(Verdict::Same);
        }
        let mut agreed = 0;
        for point in 0..POSITIVE_POINTS {
            match self.verdict(a, b, &self.place(point, Sampling::Positive, FIRST_BITS)) {
                Some(Verdict::Different) => return false,
                Some(Verdict::Same) => agreed += 1,
                None => {}
            }
        }
        if agreed < 2 || self.settled(a, b, 0) != Some(Verdict::Same) {
            return false;
        }
        let elsewhere = |sampling: Sampling| {
            move |point| self.agrees_beyond(a, b, &self.place(SIGNED_POINTS * 100 + point, sampling, FIRST_BITS))
        };
        (0..SIGNED_POINTS).all(elsewhere(Sampling::Signed))
            && (!self.bends || (0..FAR_POINTS).all(elsewhere(Sampling::Far)))
            && (!self.conjugates || (0..SIGNED_POINTS).all(elsewhere(Sampling::Complex)))
    }

    /// The verdict at the first precision that gives one that counts: nearness counts only at the last.
    fn settled(&self, a: &Expr, b: &Expr, point: u64) -> Option<Verdict> {
        let place = self.place(point, Sampling::Positive, FIRST_BITS);
        let exact = |value: &Option<Number>| value.as_ref().is_some_and(|value| value.exact().is_some());
        let (first, second) = (evaluate(a, &place), evaluate(b, &place));
        let early = match (&first, &second) {
            (Some(first), Some(second)) => first.compare(second, &place.working),
            _ => None,
        };
        if early == Some(Verdict::Different) || (exact(&first) && exact(&second)) {
            return early;
        }
        self.verdict(a, b, &self.place(point, Sampling::Positive, LAST_BITS))
    }

    fn verdict(&self, a: &Expr, b: &Expr, place: &Place) -> Option<Verdict> {
        evaluate(a, place)?.compare(&evaluate(b, place)?, &place.working)
    }

    /// Where variables are negative, only real values count, reached through real ones: `\ln x^2` and `2 \ln x` are one
    /// where both are defined. An absolute value makes signs matter, so there they have to be defined alike.
    fn agrees_beyond(&self, a: &Expr, b: &Expr, place: &Place) -> bool {
        let (Some(a), Some(b)) = (evaluate(a, place), evaluate(b, place)) else { return true };
        let comparable = match place.sampling {
            Sampling::Complex => true,
            _ if self.signs_matter => !(a.is_unreal() && b.is_unreal()),
            _ => a.is_real() && b.is_real() && !place.left_reals.get(),
        };
        !comparable || a.compare(&b, &place.working) != Some(Verdict::Different)
    }

    fn is_proportional(&self, a: &Expr, b: &Expr, ordered: bool) -> Option<bool> {
        if self.closed {
            return None;
        }
        let mut ratio: Option<Number> = None;
        let mut agreed = 0;
        let positive = (0..POSITIVE_POINTS).map(|point| (point, Sampling::Positive));
        let signed = (0..SIGNED_POINTS).map(|point| (100 + point, Sampling::Signed));
        for (point, sampling) in positive.chain(signed) {
            let place = self.place(point, sampling, FIRST_BITS);
            let (Some(a), Some(b)) = (evaluate(a, &place), evaluate(b, &place)) else { continue };
            if sampling == Sampling::Signed && (!a.is_real() || !b.is_real() || place.left_reals.get()) {
                continue;
            }
            let Some(here) = a.div(&b, &place.working) else { continue };
            let zero = here.compare(&0.into(), &place.working) != Some(Verdict::Different);
            if zero || (ordered && here.sign() != Some(Sign::Plus)) {
                return Some(false);
            }
            if let Some(ratio) = &ratio
                && ratio.compare(&here, &place.working)? == Verdict::Different
            {
                return Some(false);
            }
            agreed += 1;
            ratio = ratio.or(Some(here));
        }
        Some(agreed >= 2)
    }
}

fn collect_variables(expr: &Expr, names: &mut Vec<String>) {
    expr.any(&mut |part| {
        if let Expr::Variable(name) = part {
            names.push(name.clone());
        }
        false
    });
}

impl Expr {
    fn negative(self) -> Self {
        Self::Negative(Box::new(self))
    }
}
