//! The order of coordinates by their names.

use super::tree::{Answer, Expr};

/// `(y, x) = (2, 1)` with its coordinates in the order of their names.
pub(super) fn coordinates_by_name(label: &Answer, value: &Answer) -> (Answer, Answer) {
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

/// The values in the order of their names.
pub(super) fn in_order(pairs: Vec<(Answer, Answer)>) -> Vec<Answer> {
    by_name(pairs).into_iter().map(|(_, value)| value).collect()
}
