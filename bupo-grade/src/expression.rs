//! Finds the last number of a text, with the whole expression that it is part of.

use std::ops::Range;

/// The last expression of `text` with a number in it: `\frac{1}{2}`, `2 * 3`, `x < 3`; of `x = 5` what follows the sign.
///
/// Digits in names (`x2`, `H_2`) are no numbers. An expression ends with its line and before an ordinary word.
pub(crate) fn last_expression(text: &str) -> Option<&str> {
    let mut end = text.len();
    for _ in 0..MOST_WINDOWS {
        let digit = text.as_bytes()[..end].iter().rposition(u8::is_ascii_digit)?;
        let start = boundary_before(text, digit.saturating_sub(BYTES_BEFORE));
        let stop = boundary_before(text, text.len().min(digit + BYTES_AFTER));
        if let Some(found) = last_in(&text[start..stop]) {
            // One that begins outside of the window is longer than any number.
            let at = found.as_ptr() as usize - text.as_ptr() as usize;
            return (at > start || start == 0).then_some(found);
        }
        end = start;
    }
    None
}

/// Windows of a text in which a number is looked for, from its end, and their size around a digit.
const MOST_WINDOWS: usize = 20;
const BYTES_BEFORE: usize = 8000;
const BYTES_AFTER: usize = 2000;

fn boundary_before(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn last_in(text: &str) -> Option<&str> {
    let words = words(text);
    let at = words.iter().rposition(|word| has_number(&text[word.clone()]))?;
    let (mut first, mut last) = (at, at);
    let mut open = unmatched(&text[words[at].clone()]);
    // What is joined stays short, so that a long text takes time in proportion to its length.
    while first > 0 && at - first < MOST_WORDS && continues(text, &words[first - 1], &words[first], open) {
        first -= 1;
        open = unmatched(&text[words[first].start..words[last].end]);
    }
    while last + 1 < words.len() && last - at < MOST_WORDS && continues(text, &words[last], &words[last + 1], open) {
        last += 1;
        open = unmatched(&text[words[first].start..words[last].end]);
    }
    // `- 42` at the start of a line is an item of a list.
    let starts_line = text[..words[first].start].rsplit('\n').next().is_none_or(|line| line.trim().is_empty());
    let listed = starts_line && first < at && matches!(&text[words[first].clone()], "-" | "*" | "+" | "•");
    first += usize::from(listed);
    let run = trimmed(&text[words[first].start..words[last].end]);
    let value = trimmed(after_equals(run));
    (!value.is_empty()).then_some(value)
}

const MOST_WORDS: usize = 40;
const MOST_BYTES: usize = 1000;
const MOST_DIGITS: usize = 40;

/// The runs between white space and letters of scripts that are not used in formulas.
fn words(text: &str) -> Vec<Range<usize>> {
    let separates = |c: char| {
        let formula_letter =
            c.is_ascii() || ('\u{370}'..='\u{3ff}').contains(&c) || ('\u{1d400}'..='\u{1d7ff}').contains(&c);
        c.is_whitespace()
            || matches!(c, '\u{3002}' | '\u{3001}' | '\u{ff0c}' | '\u{ff1a}')
            || (c.is_alphabetic() && !formula_letter)
    };
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        match (separates(c), start) {
            (true, Some(from)) => {
                words.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.map(|from| from..text.len()));
    words
}

/// Whether a word has digits that are not part of a name.
fn has_number(word: &str) -> bool {
    let word = word.trim_start_matches(['_', '*']);
    let bytes = word.as_bytes();
    let is_formula = word.contains('\\');
    let named = |at: usize| {
        let before = bytes[..at]
            .iter()
            .rev()
            .take(MOST_DIGITS)
            .find(|byte| !matches!(byte, b'{' | b'.') && !byte.is_ascii_digit());
        !is_formula && before.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
    };
    (0..bytes.len()).any(|at| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_digit()) && !named(at))
}

/// Whether an expression goes on from one word to the next, while brackets are `unmatched` in what was joined so far.
fn continues(text: &str, left: &Range<usize>, right: &Range<usize>, unmatched: (bool, bool)) -> bool {
    if right.end - left.start > MOST_BYTES {
        return false;
    }
    if text[left.end..right.start].contains('\n') || !text[left.end..right.start].chars().all(char::is_whitespace) {
        return false;
    }
    let (left, right) = (&text[left.clone()], &text[right.clone()]);
    if unmatched.0 || unmatched.1 || is_function(left) {
        return true;
    }
    let delimiter = |word: &str| matches!(word, "\\(" | "\\)" | "\\[" | "\\]" | "$");
    let tag = right.starts_with("</") || right.starts_with("<|") || left.ends_with("->");
    if is_prose(left) || is_prose(right) || delimiter(left) || delimiter(right) || tag {
        return false;
    }
    let number =
        |word: &str| word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '\u{2212}' | '\\' | '.'));
    if let Some(item) = left.strip_suffix(',') {
        return number(item) && number(right);
    }
    let is_operand =
        |word: &str| !word.starts_with(RELATIONS) && (word == ":" || !word.ends_with(['.', ';', ':', '?', ',']));
    let operator = |c: char| OPERATORS.contains(&c);
    let letter = |word: &str| {
        word.len() == 1 && word.chars().all(char::is_alphabetic) && word != "a" && word != "A" && word != "I"
    };
    is_operand(left)
        && !right.starts_with(RELATIONS)
        && (left.ends_with(operator)
            || right.starts_with(operator)
            || right.starts_with('\\')
            || (left.starts_with('\\') && !left.starts_with("\\text"))
            || letter(right.trim_end_matches(['.', ',', ';', '!', '?', '$'])))
}

const OPERATORS: [char; 17] =
    [':', '+', '-', '*', '/', '^', '_', '\u{2212}', '×', '÷', '·', '⋅', '<', '>', '≤', '≥', '%'];
/// What stands right of these is a value of its own.
const RELATIONS: [char; 4] = ['=', '≈', '→', '⇒'];

/// Whether a word is a function that takes what follows: `log_2`, `sin`.
fn is_function(word: &str) -> bool {
    const NAMES: [&str; 9] = ["log", "ln", "sin", "cos", "tan", "sqrt", "exp", "gcd", "lcm"];
    let after =
        |name: &&str| word.strip_prefix(*name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphabetic()));
    NAMES.iter().any(after)
}

/// Whether a word is an ordinary one, perhaps with punctuation around it: `apples`, `(see`, `**Note`.
fn is_prose(word: &str) -> bool {
    let letters = word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '\\');
    let name = letters.len() == 1 && !word.ends_with([',', '.']) && !matches!(letters, "a" | "A" | "I");
    letters.chars().next().is_some_and(char::is_alphabetic)
        && letters.chars().all(|c| c.is_alphabetic() || matches!(c, '\'' | '\u{2019}'))
        && !name
}

/// Whether brackets open or close in `text` without a partner.
fn unmatched(text: &str) -> (bool, bool) {
    let (mut open, mut closed) = (0usize, false);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' if open == 0 => closed = true,
            b')' | b']' | b'}' => open -= 1,
            _ => {}
        }
    }
    (open > 0, closed)
}

/// Without the punctuation and the brackets around it.
fn trimmed(run: &str) -> &str {
    let mut run = ["</", "<|"].iter().fold(run, |run, tag| run.split(tag).next().unwrap_or(run));
    loop {
        let mut next = run.trim_start_matches(['"', '\'', '`', '*', '_', '#', '$', ',', ':', ';', '>', '~']);
        let digits = next.trim_end_matches('.');
        // Digits left out, unless the number is whole.
        if next.len() - digits.len() < 3 || digits.bytes().all(|byte| byte.is_ascii_digit()) {
            next = next.trim_end_matches('.');
        }
        next = next.trim_end_matches(['"', '\'', '`', '*', '_', ',', ':', ';', '!', '?', '<', '~', ' ', '-']);
        next = next.strip_suffix('$').unwrap_or(next);
        let (open, closed) = unmatched(next);
        if closed {
            next = next.strip_suffix([')', ']', '}']).unwrap_or(next);
        }
        if open {
            next = next.strip_prefix(['(', '[', '{']).unwrap_or(next);
        }
        if let Some(inside) = next.strip_prefix(['(', '[', '{']).and_then(|next| next.strip_suffix([')', ']', '}']))
            && inside.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'/' | b'-'))
        {
            next = inside;
        }
        for (open, close) in [("\\(", "\\)"), ("\\[", "\\]")] {
            next = next.strip_prefix(open).unwrap_or(next);
            next = next.strip_suffix(close).unwrap_or(next);
        }
        next = ["\\!", "\\,", "\\;", "\\ "].iter().find_map(|space| next.strip_prefix(space)).unwrap_or(next);
        if let Some(inside) =
            ["\\text{", "\\textbf{", "\\mathbf{", "\\mathrm{"].iter().find_map(|command| next.strip_prefix(command))
            && let Some(inside) = inside.strip_suffix('}')
            && !inside.contains('}')
        {
            next = inside;
        }
        if next.len() == run.len() {
            return run;
        }
        run = next;
    }
}

/// What stands right of the last equals sign that is in no bracket.
fn after_equals(run: &str) -> &str {
    let mut open = 0usize;
    let mut start = 0;
    let mut before = ' ';
    for (at, c) in run.char_indices() {
        let labelled = c == ':' && before.is_alphabetic();
        before = c;
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '<' | '>' | '!' if run[at + 1..].starts_with('=') => return run,
            c if open == 0 && (labelled || RELATIONS.contains(&c)) => start = at + c.len_utf8(),
            _ => {}
        }
    }
    run[start..].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_found_with_all_of_its_expression() {
        for (text, expression) in [
            ("We get 3, then 42.", Some("42")),
            ("it costs $1,250.50!", Some("1,250.50")),
            ("That makes 12 or 1,250.", Some("1,250")),
            ("That makes -0.5", Some("-0.5")),
            ("12 apples or 3 more", Some("3")),
            ("3/4 of x2 and H_2", Some("3/4")),
            ("**42**", Some("42")),
            ("- 42", Some("42")),
            ("x=-3", Some("-3")),
            ("2 + 2 = 4.", Some("4")),
            ("so (5).", Some("5")),
            ("x = \u{2212}3\u{fc}", Some("\u{2212}3")),
            ("\u{7b54}\u{6848}\u{662f}5", Some("5")),
            ("no idea", None),
            ("", None),
            // Never a part of an expression.
            ("adding \\frac{1}{2}", Some("\\frac{1}{2}")),
            ("adding \\frac{1} {2}.", Some("\\frac{1} {2}")),
            ("is \\sqrt{2 + 3}", Some("\\sqrt{2 + 3}")),
            ("is 2 * 3", Some("2 * 3")),
            ("is 2^{10}.", Some("2^{10}")),
            ("is 10^{-3}", Some("10^{-3}")),
            ("is 10-3", Some("10-3")),
            ("is 5\\pi", Some("5\\pi")),
            ("is 5 \\pi.", Some("5 \\pi")),
            ("is 5 x", Some("5 x")),
            ("is [1, 2)", Some("[1, 2)")),
            ("the point (1, 2).", Some("(1, 2)")),
            ("roots 1, 2", Some("1, 2")),
            ("so x < 3", Some("x < 3")),
            ("is x^2", Some("x^2")),
            ("is 0.333...", Some("0.333...")),
            ("equals 1.5e-3", Some("1.5e-3")),
            ("on 2023-05-06", Some("2023-05-06")),
            ("is 4/x", Some("4/x")),
            ("1,2,3", Some("1,2,3")),
        ] {
            assert_eq!(last_expression(text), expression, "{text}");
        }
    }

    #[test]
    fn hostile_texts_are_read_in_linear_time() {
        for unit in ["1", "1,", "1 ", "( ", "1 + ", "1, ", "- ", "\\a ", "x ", "x2 ", "{", "} ", "9^"] {
            last_expression(&unit.repeat(300_000));
        }
    }
}
