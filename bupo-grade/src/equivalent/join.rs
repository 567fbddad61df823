//! Joins statements into one answer.

use super::token::Relation;
use super::tree::Answer;

/// The answer that parts are together; bounds all hold, unless `either` is set, where one of them does.
pub(super) fn joined_by(mut parts: Vec<Answer>, either: bool) -> Option<Answer> {
    // `x \ne -1, 1`
    if let Some(Answer::Relation { sides, relations }) = parts.first().cloned()
        && relations == [Relation::NotEqual]
        && parts[1..].iter().all(|part| matches!(part, Answer::Value { .. }))
    {
        for part in &mut parts[1..] {
            *part = Answer::Relation { sides: vec![sides[0].clone(), part.clone()], relations: relations.clone() };
        }
    }
    let bounds = |part: &Answer| match part {
        Answer::Relation { relations, .. } => relations
            .iter()
            .all(|relation| relation.is_order() || matches!(relation, Relation::NotEqual | Relation::In)),
        _ => false,
    };
    match parts.len() {
        0 | 1 => parts.pop(),
        _ if !either && parts.iter().all(bounds) && parts.iter().any(is_order) => Some(Answer::Every(parts)),
        _ => Some(Answer::List(parts)),
    }
}

/// Whether a part is more than a membership, which may be one of several.
fn is_order(part: &Answer) -> bool {
    matches!(part, Answer::Relation { relations, .. } if !relations.contains(&Relation::In))
}
