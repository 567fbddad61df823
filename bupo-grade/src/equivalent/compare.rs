//! Decides whether two answers are the same.

use super::comparer::Comparer;
use super::number::Exact;
use super::scalar;
use super::signs;
use super::token::Bracket;
use super::tree::{Answer, Constant, Expr};
use super::unit::Unit;

/// Elements of a list, a set or a tuple more than this are only compared one by one in the order they are written.
const MOST_UNORDERED: usize = 64;

impl Comparer<'_> {
    /// Whether `a` and `b` say the same.
    pub(super) fn same(self, a: &Answer, b: &Answer) -> bool {
        if a == b {
            return true;
        }
        if self.fuel.burn(500).is_none() {
            return false;
        }
        let (mine, theirs) = (signs::expanded(a), signs::expanded(b));
        if mine.is_some() || theirs.is_some() {
            return self.same(mine.as_ref().unwrap_or(a), theirs.as_ref().unwrap_or(b));
        }
        match (a, b) {
            (Answer::Relation { .. }, Answer::Relation { .. }) => self.same_relations(a, b),
            (Answer::List(parts), other) | (other, Answer::List(parts)) if parts.iter().any(is_relation) => {
                self.same_statements(parts, other)
            }
            (Answer::Relation { .. }, other) | (other, Answer::Relation { .. }) => {
                let relation = if is_relation(a) { a } else { b };
                self.value_of(relation).is_some_and(|(_, value)| self.same(&value, other))
                    || self.same_region(relation, other)
            }
            (Answer::Choice(mine, my_value), Answer::Choice(theirs, their_value)) => {
                mine.eq_ignore_ascii_case(theirs) && self.same(my_value, their_value)
            }
            (Answer::Choice(letter, value), other) | (other, Answer::Choice(letter, value)) => {
                let letter = Answer::Words(letter.to_lowercase());
                self.same(&letter, other) || self.same(value, other)
            }
            (Answer::Every(mine), Answer::Every(theirs)) if self.same_sets(mine, theirs) => true,
            (Answer::Words(words), Answer::Value { value, unit: None })
            | (Answer::Value { value, unit: None }, Answer::Words(words)) => {
                letters(value).is_some_and(|letters| letters.eq_ignore_ascii_case(words))
            }
            (Answer::Value { .. }, Answer::Value { .. }) => self.same_quantities(a, b) || self.same_region(a, b),
            (Answer::List(mine) | Answer::Set(mine), Answer::List(theirs) | Answer::Set(theirs)) => {
                self.same_sets(mine, theirs)
            }
            (Answer::List(list), Answer::Tuple { open: Bracket::Round, close: Bracket::Round, items })
            | (Answer::Tuple { open: Bracket::Round, close: Bracket::Round, items }, Answer::List(list)) => {
                self.same_in_order(list, items)
            }
            // `\{5\}`, and `0.5 \text{ or } \frac{1}{2}`.
            (Answer::Set(all) | Answer::List(all), other) | (other, Answer::Set(all) | Answer::List(all))
                if is_value(other) && !all.is_empty() && all.len() <= MOST_UNORDERED =>
            {
                all.iter().all(|one| self.same(one, other))
            }
            (
                Answer::Tuple { open, close, items },
                Answer::Tuple { open: other_open, close: other_close, items: other_items },
            ) => {
                let plain = |bracket: &Bracket| match bracket {
                    Bracket::Angle => Bracket::Round,
                    // Three numbers in brackets are no interval, only a vector.
                    Bracket::Square if items.len() > 2 => Bracket::Round,
                    bracket => bracket.clone(),
                };
                plain(open) == plain(other_open)
                    && plain(close) == plain(other_close)
                    && self.same_in_order(items, other_items)
            }
            (Answer::Tuple { open, close, items }, Answer::Matrix(rows))
            | (Answer::Matrix(rows), Answer::Tuple { open, close, items }) => {
                let line = rows.len() == 1 || rows.iter().all(|row| row.len() == 1);
                let cells = rows.iter().flatten().map(|cell| Answer::Value { value: cell.clone(), unit: None });
                line && open == close && self.same_in_order(items, &cells.collect::<Vec<_>>())
            }
            (Answer::Matrix(mine), Answer::Matrix(theirs)) => {
                let shape = |rows: &[Vec<Expr>]| (rows.len(), rows.first().map(Vec::len));
                let cells = mine.iter().flatten().zip(theirs.iter().flatten());
                shape(mine) == shape(theirs) && cells.into_iter().all(|(a, b)| scalar::same(a, b, self.fuel))
            }
            (Answer::Clock(mine), Answer::Clock(theirs)) => mine.seconds() == theirs.seconds(),
            // `15:45` is 3:45 PM, but `3:45` may be either half of the day.
            (Answer::Clock(mine), Answer::Ratio { clock: Some(theirs), .. })
            | (Answer::Ratio { clock: Some(theirs), .. }, Answer::Clock(mine)) => {
                let settled = theirs.parts.first().is_some_and(|hour| *hour == 0 || *hour > 12);
                settled && theirs.is_valid() && mine.seconds() == theirs.seconds()
            }
            (Answer::Ratio { parts: mine, clock: my_clock }, Answer::Ratio { parts: theirs, clock: their_clock }) => {
                match (my_clock, their_clock) {
                    // Where one of them may be a time, equal ratios are not the same time.
                    (Some(my_clock), Some(their_clock)) if my_clock.is_valid() || their_clock.is_valid() => {
                        my_clock.parts == their_clock.parts
                    }
                    (Some(clock), None) | (None, Some(clock)) if clock.padded => false,
                    _ => self.same_ratios(mine, theirs),
                }
            }
            (Answer::Ratio { parts, clock }, Answer::Value { value, unit: None })
            | (Answer::Value { value, unit: None }, Answer::Ratio { parts, clock }) => {
                let [above, below] = parts.as_slice() else { return false };
                !clock.as_ref().is_some_and(|clock| clock.padded)
                    && scalar::same(&quotient(above, below), value, self.fuel)
            }
            _ => self.same_region(a, b),
        }
    }

    /// Without order and repetition.
    pub(super) fn same_sets(self, mine: &[Answer], theirs: &[Answer]) -> bool {
        if mine.len().max(theirs.len()) > MOST_UNORDERED {
            return self.same_in_order(mine, theirs);
        }
        let within = |some: &[Answer], others: &[Answer]| {
            some.iter().all(|one| others.iter().any(|other| self.same(one, other)))
        };
        within(mine, theirs) && within(theirs, mine)
    }

    pub(super) fn same_in_order(self, mine: &[Answer], theirs: &[Answer]) -> bool {
        mine.len() == theirs.len() && mine.iter().zip(theirs).all(|(a, b)| self.same(a, b))
    }

    /// `2:3` is `4:6`.
    pub(super) fn same_ratios(self, mine: &[Expr], theirs: &[Expr]) -> bool {
        let crossed = |a: &Expr, b: &Expr| Expr::Product(vec![a.clone(), b.clone()]);
        let zero = Expr::integer(0);
        let is_zero = |part: &Expr| scalar::same(part, &zero, self.fuel);
        // Against one part that is not zero, so that `0:0` is no ratio.
        let Some(pivot) = mine.iter().position(|part| !is_zero(part)) else { return false };
        mine.len() == theirs.len()
            && !is_zero(&theirs[pivot])
            && (0..mine.len()).all(|at| {
                scalar::same(&crossed(&mine[at], &theirs[pivot]), &crossed(&mine[pivot], &theirs[at]), self.fuel)
            })
    }

    /// Values with units: of one kind they are converted; a bare number is in the other's unit.
    pub(super) fn same_quantities(self, a: &Answer, b: &Answer) -> bool {
        let (Answer::Value { value: mine, unit: my_unit }, Answer::Value { value: theirs, unit: their_unit }) = (a, b)
        else {
            return false;
        };
        match (my_unit, their_unit) {
            (Some(my_unit), Some(their_unit)) if my_unit != their_unit => {
                my_unit.measures_as(their_unit)
                    && scalar::same(&times(mine, &my_unit.size), &times(theirs, &their_unit.size), self.fuel)
            }
            (Some(unit), None) => self.same_without_unit(mine, unit, theirs),
            (None, Some(unit)) => self.same_without_unit(theirs, unit, mine),
            _ => scalar::same(mine, theirs, self.fuel),
        }
    }

    /// Whether `value` in `unit` is `bare`, which has no unit. A percent or a degree is not a unit that was left out.
    pub(super) fn same_without_unit(self, value: &Expr, unit: &Unit, bare: &Expr) -> bool {
        let only_bare = |constant| scalar::outside_angles(bare, constant) && !scalar::outside_angles(value, constant);
        if only_bare(Constant::Percent) {
            return false;
        }
        if only_bare(Constant::Degree) {
            return match unit {
                unit if unit.is_angle() => scalar::same_literally(&times(value, &unit.size), bare, self.fuel),
                unit => unit.is_temperature() && scalar::same(value, bare, self.fuel),
            };
        }
        scalar::same(value, bare, self.fuel)
    }
}

/// The letters that a product of variables is written with: `Amy` is no formula beside `\text{Amy}`.
fn letters(value: &Expr) -> Option<String> {
    match value {
        Expr::Variable(name) if name.len() == 1 => Some(name.clone()),
        Expr::Constant(Constant::E) => Some("e".to_owned()),
        Expr::Constant(Constant::I) => Some("i".to_owned()),
        Expr::Product(parts) => parts.iter().map(letters).collect(),
        _ => None,
    }
}

fn is_relation(answer: &Answer) -> bool {
    matches!(answer, Answer::Relation { .. })
}

fn is_value(answer: &Answer) -> bool {
    matches!(answer, Answer::Value { .. } | Answer::Tuple { .. } | Answer::Words(_))
}

fn times(value: &Expr, factor: &Exact) -> Expr {
    Expr::Product(vec![value.clone(), Expr::Number(factor.clone())])
}

fn quotient(above: &Expr, below: &Expr) -> Expr {
    Expr::Quotient(Box::new(above.clone()), Box::new(below.clone()))
}
