//! Choices with their value: `(B) 12`, `C: 12`.

/// The letter and the value; `None` for what may be something else, such as a product or a ratio.
pub(super) fn with_value(text: &str) -> Option<(&str, &str)> {
    let (open, rest) = match text.strip_prefix('(') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let letter = rest.get(..1).filter(|letter| matches!(letter.as_bytes()[0], b'A'..=b'J'))?;
    let rest = rest[1..].trim_start_matches('*');
    let spaced = |rest: &str| {
        rest.starts_with([' ', '~', '$'])
            || ["\\,", "\\ ", "\\;", "\\quad", "\\text{"].iter().any(|space| rest.starts_with(space))
    };
    let value = match (open, rest.chars().next()?) {
        (true, ')') => rest[1..].strip_prefix(':').unwrap_or(&rest[1..]),
        (false, ')' | ':' | '.') if spaced(&rest[1..]) => &rest[1..],
        _ => return None,
    };
    let value = skip_spaces(value);
    let starts = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | '$' | '\\') || (open && c.is_alphabetic());
    (value.starts_with(starts) && (spaced(&rest[1..]) || value.starts_with(|c: char| c.is_ascii_digit())))
        .then_some((letter, value))
}

fn skip_spaces(text: &str) -> &str {
    let mut text = text;
    loop {
        let next = text.trim_start_matches([' ', '~']);
        let next = ["\\,", "\\ ", "\\;", "\\quad"].iter().find_map(|space| next.strip_prefix(space)).unwrap_or(next);
        if next.len() == text.len() {
            return text;
        }
        text = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_with_values_are_choices() {
        for (text, expected) in [
            ("(B) 12", Some(("B", "12"))),
            ("(D)\\,12", Some(("D", "12"))),
            ("(D)12", Some(("D", "12"))),
            ("C: 12", Some(("C", "12"))),
            ("C) \\frac12", Some(("C", "\\frac12"))),
            ("(A) Yes", Some(("A", "Yes"))),
            ("A:B = 2:3", None),
            ("A:2", None),
            ("(A)(B)", None),
            ("(C)", None),
            ("(x) 5", None),
            ("A", None),
            ("(A + B) 2", None),
        ] {
            assert_eq!(with_value(text), expected, "{text}");
        }
    }
}
