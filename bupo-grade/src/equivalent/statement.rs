//! Compares statements: assignments, equations, inequalities, memberships.

use super::comparer::Comparer;
use super::names::{coordinates_by_name, in_order};
use super::number::Function;
use super::scalar;
use super::token::Relation;
use super::tree::{Answer, Expr};
use super::{intervals, region};

fn is_name(answer: &Answer) -> bool {
    matches!(answer, Answer::Value { value: Expr::Variable(_), unit: None })
}

impl Comparer<'_> {
    /// The name that a statement gives a value to, and the value: `x = 5`, `f(x) = x^2`, `x \in [0, 1]`, `S = 2 + 3 = 5`;
    /// also `\frac{3}{5} = 0.6`, where both are the same.
    pub(super) fn value_of(self, statement: &Answer) -> Option<(Answer, Answer)> {
        let Answer::Relation { sides, relations } = statement else { return None };
        let (sides, relations) = without_rounding(sides, relations);
        let (label, values) = sides.split_first()?;
        // `1/3 \approx 0.33` is 1/3.
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
                steps[names..].iter().all(|step| self.same(step, value))
            }
            _ => false,
        };
        settled.then(|| coordinates_by_name(label, value))
    }

    /// Compares two statements.
    pub(super) fn same_relations(self, a: &Answer, b: &Answer) -> bool {
        let (Answer::Relation { sides: mine, relations: my_relations }, Answer::Relation { sides: theirs, relations }) =
            (a, b)
        else {
            return false;
        };
        if my_relations == relations && self.same_in_order(mine, theirs) {
            return true;
        }
        if let (Some((my_label, my_region)), Some((label, region))) =
            (region::of_relation(a, self.fuel), region::of_relation(b, self.fuel))
        {
            return my_label == label && intervals::same(&my_region, &region, self.fuel);
        }
        if let (Some((my_label, my_value)), Some((label, value))) = (self.value_of(a), self.value_of(b))
            && self.same(&my_label, &label)
            && self.same(&my_value, &value)
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
                known && same_kind && scalar::proportional(&mine, &theirs, ordered, self.fuel)
            }
            // `a < b < c` is `c > b > a`.
            (first, second) if first.len() == second.len() => {
                let turned: Vec<Relation> = second.iter().rev().map(|relation| relation.flipped()).collect();
                let backwards: Vec<Answer> = theirs.iter().rev().cloned().collect();
                first == turned && self.same_in_order(mine, &backwards)
            }
            _ => false,
        }
    }

    /// Compares a list of statements with another answer: the values they assign, or the region they describe.
    pub(super) fn same_statements(self, statements: &[Answer], other: &Answer) -> bool {
        if let Answer::List(others) = other
            && others.iter().any(|other| matches!(other, Answer::Relation { .. }))
        {
            let within = |some: &[Answer], others: &[Answer]| {
                some.iter().all(|one| others.iter().any(|other| self.same(one, other)))
            };
            if statements.len().max(others.len()) <= 24 && within(statements, others) && within(others, statements) {
                return true;
            }
            return match (self.assigned(statements), self.assigned(others)) {
                (Some((first, true, mine)), Some((second, true, theirs))) => {
                    first == second && self.same(&Answer::List(mine), &Answer::List(theirs))
                }
                _ => self.same_region(&Answer::List(statements.to_vec()), other),
            };
        }
        match self.assigned(statements) {
            // One name: any of the values. Several names: a point.
            Some((label, true, values)) => match other {
                Answer::Relation { .. } => self.value_of(other).is_some_and(|(theirs, value)| {
                    self.same(&theirs, &label) && self.same(&Answer::List(values), &value)
                }),
                // `x_1 = 1, x_2 = 2` beside a point: the coordinates by name.
                Answer::Tuple { items, .. } => {
                    let values = self.named(statements).map_or(values, in_order);
                    self.same_in_order(&values, items)
                }
                _ => self.same(&Answer::List(values), other),
            },
            Some((_, false, values)) => match other {
                Answer::List(items) | Answer::Tuple { items, .. } => {
                    let values = self.named(statements).map_or(values, in_order);
                    self.same_in_order(&values, items)
                }
                Answer::Relation { .. } => match (self.value_of(other), self.named(statements)) {
                    (Some((Answer::Tuple { items: names, .. }, Answer::Tuple { items, .. })), Some(pairs)) => {
                        let theirs: Vec<_> = names.into_iter().zip(items).collect();
                        pairs.len() == theirs.len()
                            && pairs.iter().all(|(name, value)| {
                                theirs.iter().any(|(other, their_value)| other == name && self.same(value, their_value))
                            })
                    }
                    _ => false,
                },
                _ => false,
            },
            None => self.same_region(&Answer::List(statements.to_vec()), other),
        }
    }

    /// Compares two answers as subsets of the real line.
    pub(super) fn same_region(self, a: &Answer, b: &Answer) -> bool {
        let of = |answer: &Answer| match region::of_relation(answer, self.fuel) {
            Some((label, region)) => Some((Some(label), region)),
            None => region::of_set(answer, self.fuel).map(|region| (None, region)),
        };
        match (of(a), of(b)) {
            (Some((my_label, mine)), Some((label, theirs))) => {
                (my_label.is_none() || label.is_none() || my_label == label)
                    && intervals::same(&mine, &theirs, self.fuel)
            }
            _ => false,
        }
    }

    /// The values of `x = 1, x = 2` with the name, and whether it is the same name throughout; `x = 1, 2` has one name too.
    pub(super) fn assigned(self, statements: &[Answer]) -> Option<(Answer, bool, Vec<Answer>)> {
        let (label, _) = self.value_of(statements.first()?)?;
        let (mut one_name, mut values) = (true, Vec::new());
        for statement in statements {
            match self.value_of(statement) {
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
    pub(super) fn named(self, statements: &[Answer]) -> Option<Vec<(Answer, Answer)>> {
        statements.iter().map(|statement| self.value_of(statement)).collect()
    }
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
