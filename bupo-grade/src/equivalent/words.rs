//! Answers in words.

use super::tree::{Answer, Expr};

/// The answer that prose is: case, punctuation and spacing do not count.
pub(super) fn answer(text: &str) -> Answer {
    let mut lowered = String::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()) {
        if !lowered.is_empty() {
            lowered.push(' ');
        }
        lowered.push_str(&word.to_lowercase());
    }
    match lowered.as_str() {
        "all real numbers" | "all reals" | "the real numbers" | "real numbers" | "all real" => {
            Answer::Value { value: Expr::Variable("bb R".to_owned()), unit: None }
        }
        "dne" => Answer::Words("does not exist".to_owned()),
        "no solutions" => Answer::Words("no solution".to_owned()),
        "no real solutions" => Answer::Words("no real solution".to_owned()),
        _ => Answer::Words(lowered),
    }
}

/// Plain text that is prose and no formula: `Evelyn`, `no solution`, `east`.
pub(super) fn prose(text: &str) -> Option<Answer> {
    let text = text.trim().trim_matches(['.', '$', '*']).trim();
    let plain = |c: char| c.is_alphabetic() || matches!(c, ' ' | '-' | '\'' | '.' | ',');
    if text.is_empty() || text.len() > 500 || !text.chars().all(plain) || !text.contains(|c: char| c.is_alphabetic()) {
        return None;
    }
    let mut runs = text.split(|c: char| !c.is_alphabetic()).filter(|run| !run.is_empty());
    let word =
        |run: &str| (run.len() >= 4 && !is_mathematical(run)) || SHORT.contains(&run.to_ascii_lowercase().as_str());
    if text.contains(',') && !text.contains(' ') {
        return None;
    }
    runs.any(word).then(|| answer(text))
}

/// Short words that are no product of variables; roman numerals that would be powers of i.
const SHORT: [&str; 14] =
    ["yes", "no", "odd", "even", "dne", "ii", "iii", "one", "two", "six", "ten", "red", "sun", "mon"];

fn is_mathematical(run: &str) -> bool {
    super::symbol::plain_word(run).is_some()
}
