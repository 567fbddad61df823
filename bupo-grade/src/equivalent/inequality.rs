//! Solves inequalities in one variable: linear ones, and absolute values and squares of linear ones.

use num_bigint::Sign;

use super::intervals::{Interval, complement, infinity, point};
use super::number::{Fuel, Function};
use super::scalar;
use super::token::Relation;
use super::tree::Expr;

/// The variable and the region where `left relation right` holds.
pub(super) fn solved(left: &Expr, relation: Relation, right: &Expr, fuel: &Fuel) -> Option<(Expr, Vec<Interval>)> {
    if left.is_closed() && !right.is_closed() {
        return solved(right, relation.flipped(), left, fuel);
    }
    let label = only_variable(left)?;
    let of = |inside: &Expr, relation: Relation, bound: Expr| {
        let (slope, shift) = linear(inside, &label)?;
        half_line(&slope, relation, difference(bound, shift), fuel)
    };
    let region = match (left, right.is_closed()) {
        // `|x - 1| < 2` and `x^2 < 9`; but `|z| < 2` is a disc.
        (Expr::Call(Function::Abs, inside), true) if !matches!(&label, Expr::Variable(name) if name == "z") => {
            around(|relation, bound| of(inside, relation, bound), relation, right, fuel)?
        }
        (Expr::Power(inside, degree), true) if **degree == Expr::integer(2) => {
            let bound = Expr::Root(Box::new(right.clone()), Box::new(Expr::integer(2)));
            positive(right, fuel)?;
            around(|relation, bound| of(inside, relation, bound), relation, &bound, fuel)?
        }
        (_, true) => of(left, relation, right.clone())?,
        (_, false) => of(&difference(left.clone(), right.clone()), relation, Expr::integer(0))?,
    };
    Some((label, region))
}

/// Where `|inside| relation bound`, given where `inside` is below or above a bound.
fn around(
    of: impl Fn(Relation, Expr) -> Option<Vec<Interval>>,
    relation: Relation,
    bound: &Expr,
    fuel: &Fuel,
) -> Option<Vec<Interval>> {
    positive(bound, fuel)?;
    let outside = match relation {
        Relation::Less => Relation::AtLeast,
        Relation::AtMost => Relation::Greater,
        Relation::Greater | Relation::AtLeast => relation,
        _ => return None,
    };
    let below = of(outside.flipped(), Expr::Negative(Box::new(bound.clone())))?;
    let pieces = [below, of(outside, bound.clone())?].concat();
    if outside == relation { Some(pieces) } else { complement(&pieces, fuel) }
}

/// Where `slope x relation bound`.
fn half_line(slope: &Expr, relation: Relation, bound: Expr, fuel: &Fuel) -> Option<Vec<Interval>> {
    let unit = *slope == Expr::integer(1);
    let relation = match if unit { Sign::Plus } else { scalar::order(slope, &Expr::integer(0), fuel)? } {
        Sign::Minus => relation.flipped(),
        _ => relation,
    };
    let bound = if unit { bound } else { Expr::Quotient(Box::new(bound), Box::new(slope.clone())) };
    Some(match relation {
        Relation::Less => vec![Interval { low: infinity(-1), high: (bound, false) }],
        Relation::AtMost => vec![Interval { low: infinity(-1), high: (bound, true) }],
        Relation::Greater => vec![Interval { low: (bound, false), high: infinity(1) }],
        Relation::AtLeast => vec![Interval { low: (bound, true), high: infinity(1) }],
        Relation::Equal => vec![point(bound)],
        Relation::NotEqual => complement(&[point(bound)], fuel)?,
        _ => return None,
    })
}

/// `expr` as `slope x + shift`.
fn linear(expr: &Expr, x: &Expr) -> Option<(Expr, Expr)> {
    let (zero, one) = (Expr::integer(0), Expr::integer(1));
    if expr == x {
        return Some((one, zero));
    }
    if expr.is_closed() {
        return Some((zero, expr.clone()));
    }
    match expr {
        Expr::Sum(parts) => {
            let parts = parts.iter().map(|part| linear(part, x)).collect::<Option<Vec<_>>>()?;
            let (slopes, shifts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            Some((total(slopes), total(shifts)))
        }
        Expr::Negative(part) => {
            let (slope, shift) = linear(part, x)?;
            Some((Expr::Negative(Box::new(slope)), Expr::Negative(Box::new(shift))))
        }
        Expr::Product(parts) => {
            let (factors, rest): (Vec<_>, Vec<_>) = parts.iter().cloned().partition(Expr::is_closed);
            let [rest] = rest.as_slice() else { return None };
            let (slope, shift) = linear(rest, x)?;
            let times = |value: Expr| Expr::Product(factors.iter().cloned().chain([value]).collect());
            Some((times(slope), times(shift)))
        }
        Expr::Quotient(above, below) if below.is_closed() => {
            let (slope, shift) = linear(above, x)?;
            let over = |value: Expr| Expr::Quotient(Box::new(value), below.clone());
            Some((over(slope), over(shift)))
        }
        _ => None,
    }
}

fn only_variable(expr: &Expr) -> Option<Expr> {
    let mut found: Option<Expr> = None;
    let mut several = false;
    expr.any(&mut |part| {
        if matches!(part, Expr::Variable(_) | Expr::Apply(..)) {
            several |= found.get_or_insert_with(|| part.clone()) != part || matches!(part, Expr::Apply(..));
        }
        false
    });
    found.filter(|_| !several)
}

/// The sum, without the zeros, so that `x - 0` stays what it was.
fn total(parts: Vec<Expr>) -> Expr {
    let mut parts: Vec<Expr> = parts.into_iter().filter(|part| !is_zero(part)).collect();
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, Some(last)) => {
            parts.push(last);
            Expr::Sum(parts)
        }
        _ => Expr::integer(0),
    }
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Negative(part) => is_zero(part),
        other => *other == Expr::integer(0),
    }
}

fn difference(left: Expr, right: Expr) -> Expr {
    total(vec![left, Expr::Negative(Box::new(right))])
}

fn positive(value: &Expr, fuel: &Fuel) -> Option<()> {
    (scalar::order(value, &Expr::integer(0), fuel)? == Sign::Plus).then_some(())
}
