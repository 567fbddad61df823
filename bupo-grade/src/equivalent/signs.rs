//! `\pm`: two answers in one.

use super::token::Relation;
use super::tree::{Answer, Expr};

/// An answer with `\pm` in it as the list of both; `None` for one without.
pub(super) fn expanded(answer: &Answer) -> Option<Answer> {
    let has = |expr: &Expr| expr.any(&mut |part| matches!(part, Expr::PlusMinus { .. }));
    match answer {
        Answer::Value { value, unit } if has(value) => Some(Answer::List(
            [false, true].map(|lower| Answer::Value { value: value.with_sign(lower), unit: unit.clone() }).into(),
        )),
        Answer::List(parts) | Answer::Set(parts) => {
            let both: Vec<Option<Answer>> = parts.iter().map(expanded).collect();
            if both.iter().all(Option::is_none) {
                return None;
            }
            let parts = parts.iter().zip(both).flat_map(|(part, both)| match both {
                Some(Answer::List(both)) => both,
                _ => vec![part.clone()],
            });
            Some(Answer::List(parts.collect()))
        }
        Answer::Relation { sides, relations } => match (sides.as_slice(), relations.as_slice()) {
            ([label, value], [Relation::Equal]) => {
                let Answer::List(values) = expanded(value)? else { return None };
                let equation =
                    |value| Answer::Relation { sides: vec![label.clone(), value], relations: relations.clone() };
                Some(Answer::List(values.into_iter().map(equation).collect()))
            }
            _ => None,
        },
        _ => None,
    }
}
