//! Compares statements: assignments, equations, inequalities, memberships.

use super::compare::{same, same_in_order};
use super::number::{Fuel, Function};
use super::region;
use super::scalar;
use super::token::Relation;
use super::tree::{Answer, Expr};

/// The name that a statement gives a value to, and the value: `x = 5`, `f(x) = x^2`, `x \in [0, 1]`, `S = 2 + 3 = 5`;
/// also `\frac{3}{5} = 0.6`, where both are the same.
pub(super) fn value_of(statement: &Answer, fuel: &Fuel) -> Option<(Answer, Answer)> {
    let Answer::Relation { sides, relations } = statement else { return None };
    let (sides, relations) = without_rounding(sides, relations);
    let (label, values) = sides.split_first()?;
    // `1/3 \approx 0.33` says 1/3.
    let Some(value) = values.last() else { return Some((label.clone(), label.clone())) };
    let all = |wanted: Relation| relations.iter().all(|relation| *relation == wanted);
    let settled = match relations {
        [Relation::In] => names_value(label, false),
        [Relation::About] => names_value(label, true),
        // Every step of a chain has to be right, or any guess could be added to it.
        _ if all(Relation::Equal) => {
            let steps = if names_value(label, is_number(value)) { values } else { sides };
            // In `x = y = 5` every name has the value.
            let names = steps.iter().take_while(|step| is_name(step)).count().min(steps.len() - 1);
            steps[names..].iter().all(|step| same(step, value, fuel))
        }
        _ => false,
    };
    settled.then(|| coordinates_by_name(label, value))
}

/// `(y, x) = (2, 1)` with its coordinates in the order of their names.
fn coordinates_by_name(label: &Answer, value: &Answer) -> (Answer, Answer) {
    if let (Answer::Tuple { items: names, .. }, Answer::Tuple { open, close, items: values }) = (label, value)
        && names.len() == values.len()
    {
        let pairs = by_name(names.iter().cloned().zip(values.iter().cloned()).collect());
        let tuple = |items| Answer::Tuple { open: open.clone(), close: close.clone(), items };
        let (names, values) = pairs.into_iter().unzip();
        return (tuple(names), tuple(values));
    }
    (label.clone(), value.clone())
}

/// Compares two statements.
pub(super) fn same_relations(a: &Answer, b: &Answer, fuel: &Fuel) -> bool {
    let (Answer::Relation { sides: mine, relations: my_relations }, Answer::Relation { sides: theirs, relations }) =
        (a, b)
    else {
        return false;
    };
    if my_relations == relations && same_in_order(mine, theirs, fuel) {
        return true;
    }
    if let (Some((my_label, my_region)), Some((label, region))) =
        (region::of_relation(a, fuel), region::of_relation(b, fuel))
    {
        return my_label == label && region::same(&my_region, &region, fuel);
    }
    if let (Some((my_label, my_value)), Some((label, value))) = (value_of(a, fuel), value_of(b, fuel))
        && same(&my_label, &label, fuel)
        && same(&my_value, &value, fuel)
    {
        return true;
    }
    match (my_relations.as_slice(), relations.as_slice()) {
        ([first], [second]) => {
            let ordered = first.is_order();
            let (Some(mine), Some(theirs)) = (difference(mine, *first), difference(theirs, *second)) else {
                return false;
            };
            let same_kind = first == second || (ordered && *first == second.flipped());
            let known = matches!(first, Relation::Equal | Relation::NotEqual) || ordered;
            known && same_kind && scalar::proportional(&mine, &theirs, ordered, fuel)
        }
        // `a < b < c` is `c > b > a`.
        (first, second) if first.len() == second.len() => {
            let turned: Vec<Relation> = second.iter().rev().map(|relation| relation.flipped()).collect();
            let backwards: Vec<Answer> = theirs.iter().rev().cloned().collect();
            first == turned && same_in_order(mine, &backwards, fuel)
        }
        _ => false,
    }
}

/// Compares a list of statements with another answer: the values they assign, or the region they describe.
pub(super) fn same_statements(statements: &[Answer], other: &Answer, fuel: &Fuel) -> bool {
    if let Answer::List(others) = other
        && others.iter().any(|other| matches!(other, Answer::Relation { .. }))
    {
        let within = |some: &[Answer], others: &[Answer]| {
            some.iter().all(|one| others.iter().any(|other| same(one, other, fuel)))
        };
        if statements.len().max(others.len()) <= 24 && within(statements, others) && within(others, statements) {
            return true;
        }
        return match (assigned(statements, fuel), assigned(others, fuel)) {
            (Some((first, true, mine)), Some((second, true, theirs))) => {
                first == second && same(&Answer::List(mine), &Answer::List(theirs), fuel)
            }
            _ => same_region(&Answer::List(statements.to_vec()), other, fuel),
        };
    }
    match assigned(statements, fuel) {
        // One name: any of the values. Several names: a point.
        Some((label, true, values)) => match other {
            Answer::Relation { .. } => value_of(other, fuel).is_some_and(|(theirs, value)| {
                same(&theirs, &label, fuel) && same(&Answer::List(values), &value, fuel)
            }),
            // `x_1 = 1, x_2 = 2` beside a point: the coordinates by name.
            Answer::Tuple { items, .. } => {
                let values = named(statements, fuel).map_or(values, in_order);
                same_in_order(&values, items, fuel)
            }
            _ => same(&Answer::List(values), other, fuel),
        },
        Some((_, false, values)) => match other {
            Answer::List(items) | Answer::Tuple { items, .. } => {
                let values = named(statements, fuel).map_or(values, in_order);
                same_in_order(&values, items, fuel)
            }
            Answer::Relation { .. } => match (value_of(other, fuel), named(statements, fuel)) {
                (Some((Answer::Tuple { items: names, .. }, Answer::Tuple { items, .. })), Some(pairs)) => {
                    let theirs: Vec<_> = names.into_iter().zip(items).collect();
                    pairs.len() == theirs.len()
                        && pairs.iter().all(|(name, value)| {
                            theirs.iter().any(|(other, their_value)| other == name && same(value, their_value, fuel))
                        })
                }
                _ => false,
            },
            _ => false,
        },
        None => same_region(&Answer::List(statements.to_vec()), other, fuel),
    }
}

/// Compares two answers as subsets of the real line.
pub(super) fn same_region(a: &Answer, b: &Answer, fuel: &Fuel) -> bool {
    let of = |answer: &Answer| match region::of_relation(answer, fuel) {
        Some((label, region)) => Some((Some(label), region)),
        None => region::of_set(answer, fuel).map(|region| (None, region)),
    };
    match (of(a), of(b)) {
        (Some((my_label, mine)), Some((label, theirs))) => {
            (my_label.is_none() || label.is_none() || my_label == label) && region::same(&mine, &theirs, fuel)
        }
        _ => false,
    }
}

/// The values of `x = 1, x = 2` with the name, and whether it is the same name throughout; `x = 1, 2` has one name too.
fn assigned(statements: &[Answer], fuel: &Fuel) -> Option<(Answer, bool, Vec<Answer>)> {
    let (label, _) = value_of(statements.first()?, fuel)?;
    let (mut one_name, mut values) = (true, Vec::new());
    for statement in statements {
        match value_of(statement, fuel) {
            Some((other, value)) => {
                one_name &= base_name(&other) == base_name(&label);
                values.push(value);
            }
            None if matches!(statement, Answer::Relation { .. }) => return None,
            None => values.push(statement.clone()),
        }
    }
    Some((label, one_name, values))
}

/// The names and values of `y = 2, x = 1`, where every statement has its own.
fn named(statements: &[Answer], fuel: &Fuel) -> Option<Vec<(Answer, Answer)>> {
    statements.iter().map(|statement| value_of(statement, fuel)).collect()
}

/// The values in the order of their names.
fn in_order(pairs: Vec<(Answer, Answer)>) -> Vec<Answer> {
    by_name(pairs).into_iter().map(|(_, value)| value).collect()
}

/// In the order of their names, where the names have one: `x, y, z`, `a, b`, `x_1, x_2`; else as they are written.
fn by_name(mut pairs: Vec<(Answer, Answer)>) -> Vec<(Answer, Answer)> {
    let key = |pair: &(Answer, Answer)| match &pair.0 {
        Answer::Value { value: Expr::Variable(name), unit: None } => place_of_name(name),
        _ => None,
    };
    let Some(keys) = pairs.iter().map(key).collect::<Option<Vec<_>>>() else { return pairs };
    if keys.iter().all(|(family, ..)| *family == keys[0].0) {
        pairs.sort_by_key(key);
    }
    pairs
}

/// The family that a name belongs to, and its place there.
fn place_of_name(name: &str) -> Option<(String, String, u32)> {
    const FAMILIES: [&str; 8] = ["abcdefgh", "ijkl", "mn", "pqrs", "uvw", "xyz", "ABCDEFGH", "PQRS"];
    let (base, index) = match name.split_once('_') {
        Some((base, index)) => (base, Some(index.trim().parse::<u32>().ok()?)),
        None => (name, None),
    };
    match (index, FAMILIES.iter().find(|family| base.len() == 1 && family.contains(base))) {
        (Some(index), _) => Some((format!("{base}_"), String::new(), index)),
        (None, Some(family)) => Some(((*family).to_owned(), base.to_owned(), 0)),
        (None, None) if matches!(base, "r" | "theta" | "rho" | "phi") => Some(("polar".to_owned(), base.to_owned(), 0)),
        (None, None) if base.len() > 1 => Some(("greek".to_owned(), base.to_owned(), 0)),
        _ => None,
    }
}

fn is_name(answer: &Answer) -> bool {
    matches!(answer, Answer::Value { value: Expr::Variable(_), unit: None })
}

/// `x_1` and `x_2` are two values of `x`.
fn base_name(label: &Answer) -> Answer {
    match label {
        Answer::Value { value: Expr::Variable(name), unit } => {
            let base = name.split('_').next().unwrap_or(name);
            Answer::Value { value: Expr::Variable(base.to_owned()), unit: unit.clone() }
        }
        other => other.clone(),
    }
}

/// What stands before the first `\approx`; where that is only a name, all.
fn without_rounding<'a>(sides: &'a [Answer], relations: &'a [Relation]) -> (&'a [Answer], &'a [Relation]) {
    match relations.iter().position(|relation| *relation == Relation::About) {
        Some(at) if at > 0 || !names_value(&sides[0], true) => (&sides[..=at], &relations[..at]),
        _ => (sides, relations),
    }
}

fn is_number(answer: &Answer) -> bool {
    matches!(answer, Answer::Value { value, .. } if value.is_closed())
}

/// Whether a left side only names what stands right of it. `a + b = 7` names a number, but is a line where the right side
/// is none.
fn names_value(label: &Answer, number: bool) -> bool {
    match label {
        Answer::Words(_) => true,
        Answer::Value { value, unit: None } => match value {
            Expr::Variable(_) | Expr::Apply(..) => true,
            Expr::Product(parts) => parts.iter().all(|part| matches!(part, Expr::Variable(_))),
            // `\tan\theta = \frac{3}{4}` and `|AB| = 5`; but `|x| = 5` is an equation.
            Expr::Call(function, part) if function.is_circular() => number && matches!(**part, Expr::Variable(_)),
            Expr::Call(Function::Abs, part) => number && is_segment(part),
            Expr::Series { bounds, .. } => bounds.1.infinity().is_some(),
            Expr::Sum(parts) => number && parts.iter().all(|part| names_value(&plain(part), number)),
            Expr::Quotient(above, below) => {
                let names = names_value(&plain(above), number) && names_value(&plain(below), number);
                names && (number || (is_differential(above) && is_differential(below)))
            }
            _ => false,
        },
        Answer::Tuple { items, .. } => items.iter().all(|item| names_value(item, false)),
        Answer::Ratio { parts, .. } => parts.iter().all(|part| names_value(&plain(part), number)),
        _ => false,
    }
}

/// `AB`
fn is_segment(value: &Expr) -> bool {
    let point =
        |part: &Expr| matches!(part, Expr::Variable(name) if name.starts_with(|c: char| c.is_ascii_uppercase()));
    matches!(value, Expr::Product(parts) if parts.len() == 2 && parts.iter().all(point))
}

/// `dy` or `\partial f`
fn is_differential(value: &Expr) -> bool {
    let sign = |part: &Expr| matches!(part, Expr::Variable(name) if name == "d" || name == "partial");
    matches!(value, Expr::Product(parts) if parts.first().is_some_and(sign))
}

fn plain(value: &Expr) -> Answer {
    Answer::Value { value: value.clone(), unit: None }
}

/// The left side less the right one, turned so that it is compared with `<`.
fn difference(sides: &[Answer], relation: Relation) -> Option<Expr> {
    let [Answer::Value { value: left, unit: None }, Answer::Value { value: right, unit: None }] = sides else {
        return None;
    };
    let (left, right) = match relation {
        Relation::Greater | Relation::AtLeast => (right, left),
        _ => (left, right),
    };
    Some(Expr::Sum(vec![left.clone(), Expr::Negative(Box::new(right.clone()))]))
}
