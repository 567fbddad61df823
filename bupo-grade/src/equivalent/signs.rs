//! `\pm`: two answers in one.

use super::token::{Bracket, Relation};
use super::tree::{Answer, Expr};

/// An answer with `\pm` in it as the list of both; `None` for one without.
pub(super) fn expanded(answer: &Answer) -> Option<Answer> {
    let has = |expr: &Expr| expr.any(&mut |part| matches!(part, Expr::PlusMinus { .. }));
    match answer {
        Answer::Value { value, unit } if has(value) => Some(Answer::List(
            [false, true].map(|lower| Answer::Value { value: value.with_sign(lower), unit: unit.clone() }).into(),
        )),
        Answer::List(parts) | Answer::Set(parts) | Answer::Every(parts) => {
            let both: Vec<Option<Answer>> = parts.iter().map(expanded).collect();
            if both.iter().all(Option::is_none) {
                return None;
            }
            let parts = parts.iter().zip(both).flat_map(|(part, both)| match both {
                Some(Answer::List(both) | Answer::Every(both)) => both,
                _ => vec![part.clone()],
            });
            let parts = parts.collect();
            Some(if matches!(answer, Answer::Every(_)) { Answer::Every(parts) } else { Answer::List(parts) })
        }
        Answer::Relation { sides, relations } => match (sides.as_slice(), relations.as_slice()) {
            ([label, value], [relation @ (Relation::Equal | Relation::NotEqual)]) => {
                let Answer::List(values) = expanded(value)? else { return None };
                let equation =
                    |value| Answer::Relation { sides: vec![label.clone(), value], relations: relations.clone() };
                let both = values.into_iter().map(equation).collect();
                Some(if *relation == Relation::Equal { Answer::List(both) } else { Answer::Every(both) })
            }
            _ => None,
        },
        // `(\pm 3, 0)` is two points; `(\pm 3, \pm 4)` may be two or four.
        Answer::Tuple { open: open @ Bracket::Round, close: close @ Bracket::Round, items } => {
            let mut signed = items.iter().enumerate().filter_map(|(at, item)| Some((at, expanded(item)?)));
            let (Some((at, Answer::List(both))), None) = (signed.next(), signed.next()) else { return None };
            // Of a set among the coordinates, both values are one.
            if !matches!(items[at], Answer::Value { .. }) {
                return None;
            }
            let point = |item: Answer| {
                let mut items = items.clone();
                items[at] = item;
                Answer::Tuple { open: open.clone(), close: close.clone(), items }
            };
            Some(Answer::List(both.into_iter().map(point).collect()))
        }
        _ => None,
    }
}
