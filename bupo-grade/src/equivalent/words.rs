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
        "positive real numbers" | "all positive real numbers" | "all positive reals" | "positive reals" => {
            Answer::Value { value: Expr::Variable("bb R^Mark('+')".to_owned()), unit: None }
        }
        "dne" => Answer::Words("does not exist".to_owned()),
        "no solutions" => Answer::Words("no solution".to_owned()),
        "no real solutions" => Answer::Words("no real solution".to_owned()),
        _ => Answer::Words(lowered),
    }
}

/// Text that is prose and no formula: `Evelyn`, `no solution`, `\text{less than 2}`.
pub(super) fn prose(text: &str) -> Option<Answer> {
    let text = unwrapped(text.trim()).trim().trim_matches(['.', '$', '*']).trim();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '\'' | '.' | ',');
    if text.len() > 500 || !text.starts_with(char::is_alphabetic) || !text.chars().all(plain) {
        return None;
    }
    // `a,b` is a list, and `53 apples` is a quantity.
    if text.contains(',') && !text.contains(' ') {
        return None;
    }
    let mut runs = text.split(|c: char| !c.is_alphabetic()).filter(|run| !run.is_empty());
    let first_decides = text.contains(|c: char| c.is_ascii_digit());
    let word =
        |run: &str| (run.len() >= 4 && !is_mathematical(run)) || SHORT.contains(&run.to_ascii_lowercase().as_str());
    let found = if first_decides { runs.next().is_some_and(word) } else { runs.any(word) };
    found.then(|| answer(text))
}

/// The content of one text command around everything.
fn unwrapped(text: &str) -> &str {
    ["\\text{", "\\textbf{", "\\textit{", "\\mathrm{", "\\mbox{"]
        .iter()
        .find_map(|command| text.strip_prefix(command)?.strip_suffix('}'))
        .unwrap_or(text)
}

/// Short words that are no product of variables; roman numerals that would be powers of i.
const SHORT: [&str; 14] =
    ["yes", "no", "odd", "even", "dne", "ii", "iii", "one", "two", "six", "ten", "red", "sun", "mon"];

fn is_mathematical(run: &str) -> bool {
    super::symbol::plain_word(run).is_some()
}
