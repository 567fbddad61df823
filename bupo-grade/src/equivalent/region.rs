//! Subsets of the real line: intervals, and the inequalities that describe them.

use super::inequality;
use super::intervals::{Interval, complement, infinity, intersection, merged, point};
use super::number::Fuel;
use super::signs;
use super::token::{Bracket, Relation};
use super::tree::{Answer, Expr};

/// The region that a set describes.
pub(super) fn of_set(answer: &Answer, fuel: &Fuel) -> Option<Vec<Interval>> {
    match answer {
        Answer::Tuple { open, close, items } => match (items.as_slice(), closed(open), closed(close)) {
            ([low, high], Some(low_closed), Some(high_closed)) => {
                Some(vec![Interval { low: (number(low)?, low_closed), high: (number(high)?, high_closed) }])
            }
            _ => None,
        },
        Answer::Set(_) if signs::expanded(answer).is_some() => match signs::expanded(answer)? {
            Answer::List(items) => of_set(&Answer::Set(items), fuel),
            _ => None,
        },
        Answer::Set(items) => items.iter().map(|item| Some(point(number(item)?))).collect(),
        Answer::Union(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| of_set(part, fuel)).collect::<Option<_>>()?;
            let pieces: Vec<_> = parts.into_iter().flatten().collect();
            Some(merged(&pieces, fuel).unwrap_or(pieces))
        }
        Answer::Intersection(parts) => {
            let mut parts = parts.iter();
            let first = of_set(parts.next()?, fuel)?;
            parts.try_fold(first, |common, part| intersection(&common, &of_set(part, fuel)?, fuel))
        }
        Answer::Without(from, taken) => {
            intersection(&of_set(from, fuel)?, &complement(&of_set(taken, fuel)?, fuel)?, fuel)
        }
        Answer::Value { value: Expr::Variable(name), unit: None } => real_numbers(name, fuel),
        Answer::Relation { .. } | Answer::Every(_) | Answer::List(_) => {
            of_relation(answer, fuel).map(|(_, region)| region)
        }
        _ => None,
    }
}

/// `\mathbb{R}`, or the part of it that a mark behind the name selects: `\mathbb{R}^+`, `\mathbb{R}_{\ge 0}`.
fn real_numbers(name: &str, fuel: &Fuel) -> Option<Vec<Interval>> {
    let zero = |closed| (Expr::integer(0), closed);
    let above = |closed| Some(vec![Interval { low: zero(closed), high: infinity(1) }]);
    let below = |closed| Some(vec![Interval { low: infinity(-1), high: zero(closed) }]);
    match name.strip_prefix("bb R")? {
        "" => Some(vec![Interval { low: infinity(-1), high: infinity(1) }]),
        "^Mark('+')" | "_Mark('+')" | "_Relation(Greater) 0" | "^Relation(Greater) 0" => above(false),
        "_Relation(AtLeast) 0" | "^Relation(AtLeast) 0" | "_Mark('+')^0" => above(true),
        "^Mark('-')" | "_Mark('-')" | "_Relation(Less) 0" | "^Relation(Less) 0" => below(false),
        "_Relation(AtMost) 0" | "^Relation(AtMost) 0" => below(true),
        "^Mark('*')" | "_Relation(NotEqual) 0" => complement(&[point(Expr::integer(0))], fuel),
        _ => None,
    }
}

/// The variable and the region that inequalities describe.
pub(super) fn of_relation(answer: &Answer, fuel: &Fuel) -> Option<(Expr, Vec<Interval>)> {
    match answer {
        Answer::Relation { sides, relations } => match (sides.as_slice(), relations.as_slice()) {
            ([label, set], [Relation::In]) => Some((variable(label)?, of_set(set, fuel)?)),
            ([left, right], [relation]) => inequality::solved(&number(left)?, *relation, &number(right)?, fuel),
            ([low, middle, high], [first, second]) if first.is_order() && second.is_order() => {
                let (low, middle, high) = (number(low)?, number(middle)?, number(high)?);
                let (label, left) = inequality::solved(&low, *first, &middle, fuel)?;
                let (other, right) = inequality::solved(&middle, *second, &high, fuel)?;
                (label == other).then_some((label, intersection(&left, &right, fuel)?))
            }
            _ => None,
        },
        // `x < 1 \text{ or } x > 2`
        Answer::List(parts) => {
            let (label, pieces) = of_relations(parts, fuel)?;
            let pieces = pieces.concat();
            let merged = merged(&pieces, fuel);
            Some((label, merged.unwrap_or(pieces)))
        }
        Answer::Every(parts) => {
            let (label, regions) = of_relations(parts, fuel)?;
            let mut regions = regions.into_iter();
            let first = regions.next()?;
            Some((label, regions.try_fold(first, |common, region| intersection(&common, &region, fuel))?))
        }
        _ => None,
    }
}

fn of_relations(parts: &[Answer], fuel: &Fuel) -> Option<(Expr, Vec<Vec<Interval>>)> {
    let mut label = None;
    let mut regions = Vec::new();
    for part in parts {
        let (variable, region) = of_relation(part, fuel)?;
        if label.get_or_insert_with(|| variable.clone()) != &variable {
            return None;
        }
        regions.push(region);
    }
    Some((label?, regions))
}

fn closed(bracket: &Bracket) -> Option<bool> {
    match bracket {
        Bracket::Round => Some(false),
        Bracket::Square => Some(true),
        _ => None,
    }
}

fn number(answer: &Answer) -> Option<Expr> {
    match answer {
        Answer::Value { value, unit: None } => Some(value.clone()),
        _ => None,
    }
}

fn variable(answer: &Answer) -> Option<Expr> {
    number(answer).filter(|value| matches!(value, Expr::Variable(_)))
}
