//! Sets of intervals of the real line.

use num_bigint::Sign;

use super::number::Fuel;
use super::scalar;
use super::tree::{Constant, Expr};

/// One end of an interval: where, and whether it belongs to it.
type End = (Expr, bool);

/// An interval; a point is closed on both sides.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    pub(super) low: End,
    pub(super) high: End,
}

/// Regions of more pieces are not compared.
const MOST_PIECES: usize = 24;

/// Whether two regions have the same pieces.
pub(super) fn same(a: &[Interval], b: &[Interval], fuel: &Fuel) -> bool {
    if a.len() != b.len() || a.len() > MOST_PIECES {
        return false;
    }
    let mut left: Vec<&Interval> = b.iter().collect();
    a.iter().all(|mine| match left.iter().position(|theirs| mine.is_same(theirs, fuel)) {
        Some(at) => {
            left.swap_remove(at);
            true
        }
        None => false,
    })
}

/// The real line without the pieces.
pub(super) fn complement(pieces: &[Interval], fuel: &Fuel) -> Option<Vec<Interval>> {
    let mut low = infinity(-1);
    let mut left = Vec::new();
    for piece in merged(pieces, fuel)? {
        left.push(Interval { low, high: (piece.low.0, !piece.low.1) });
        low = (piece.high.0, !piece.high.1);
    }
    left.push(Interval { low, high: infinity(1) });
    left.retain(|piece| piece.low.0.infinity() != Some(1) && piece.high.0.infinity() != Some(-1));
    Some(left)
}

pub(super) fn infinity(sign: i8) -> End {
    let infinity = Expr::Constant(Constant::Infinity);
    (if sign > 0 { infinity } else { Expr::Negative(Box::new(infinity)) }, false)
}

pub(super) fn point(value: Expr) -> Interval {
    Interval { low: (value.clone(), true), high: (value, true) }
}

impl Interval {
    fn is_same(&self, other: &Self, fuel: &Fuel) -> bool {
        let end = |a: &End, b: &End| a.1 == b.1 && scalar::same(&a.0, &b.0, fuel);
        end(&self.low, &other.low) && end(&self.high, &other.high)
    }
}

pub(super) fn intersection(a: &[Interval], b: &[Interval], fuel: &Fuel) -> Option<Vec<Interval>> {
    let outside = [complement(a, fuel)?, complement(b, fuel)?].concat();
    complement(&outside, fuel)
}

/// The pieces in order, with those that overlap or touch made one; `None` where their order is not settled.
pub(super) fn merged(pieces: &[Interval], fuel: &Fuel) -> Option<Vec<Interval>> {
    if pieces.len() > MOST_PIECES {
        return None;
    }
    let mut sorted: Vec<Interval> = Vec::new();
    for piece in pieces {
        let empty = match compared(&piece.low.0, &piece.high.0, fuel)? {
            Sign::Plus => true,
            Sign::NoSign => !(piece.low.1 && piece.high.1),
            Sign::Minus => false,
        };
        if empty {
            continue;
        }
        let mut at = sorted.len();
        while at > 0 && starts_before(piece, &sorted[at - 1], fuel)? {
            at -= 1;
        }
        sorted.insert(at, piece.clone());
    }
    let mut merged: Vec<Interval> = Vec::new();
    for piece in sorted {
        let Some(last) = merged.last_mut() else {
            merged.push(piece);
            continue;
        };
        let touches = match compared(&last.high.0, &piece.low.0, fuel)? {
            Sign::Plus => true,
            Sign::NoSign => last.high.1 || piece.low.1,
            Sign::Minus => false,
        };
        if !touches {
            merged.push(piece);
            continue;
        }
        match compared(&piece.high.0, &last.high.0, fuel)? {
            Sign::Plus => last.high = piece.high,
            Sign::NoSign => last.high.1 |= piece.high.1,
            Sign::Minus => {}
        }
    }
    Some(merged)
}

fn starts_before(a: &Interval, b: &Interval, fuel: &Fuel) -> Option<bool> {
    Some(match compared(&a.low.0, &b.low.0, fuel)? {
        Sign::Minus => true,
        Sign::NoSign => a.low.1 && !b.low.1,
        Sign::Plus => false,
    })
}

/// The sign of `a - b`.
fn compared(a: &Expr, b: &Expr, fuel: &Fuel) -> Option<Sign> {
    match (a.infinity(), b.infinity()) {
        (None, None) if !a.is_closed() || !b.is_closed() => None,
        (None, None) if scalar::same(a, b, fuel) => Some(Sign::NoSign),
        (None, None) => scalar::order(a, b, fuel),
        (mine, theirs) => Some(match mine.unwrap_or(0) - theirs.unwrap_or(0) {
            0 => Sign::NoSign,
            difference if difference > 0 => Sign::Plus,
            _ => Sign::Minus,
        }),
    }
}
