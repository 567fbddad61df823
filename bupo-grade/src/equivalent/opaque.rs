//! Dates and telephone numbers: digits and signs that are not arithmetic.

use super::tree::Answer;

/// A date or a telephone number as its digits with what separates them.
pub(super) fn code(text: &str) -> Option<Answer> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '$' | '.'));
    if text.len() > 20
        || text.contains(|c: char| !c.is_ascii_digit() && !matches!(c, '-' | '/' | '.' | ' ' | '(' | ')' | '+'))
    {
        return None;
    }
    is_date(text).or_else(|| is_telephone(text).then(|| text.replace(['(', ')', ' '], "-"))).map(|code| {
        let digits: Vec<&str> = code.split('-').filter(|part| !part.is_empty()).collect();
        Answer::Words(format!("code {}", digits.join("-")))
    })
}

/// `2023-05-06`, `5/6/2023`: a year of four digits and two numbers that can be a month and a day.
fn is_date(text: &str) -> Option<String> {
    let separator = text.chars().find(|c| !c.is_ascii_digit()).filter(|c| matches!(c, '-' | '/' | '.'))?;
    let parts: Vec<&str> = text.split(separator).collect();
    let number =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u32>().ok()).flatten();
    let [first, second, third] = parts.as_slice() else { return None };
    let (year, one, other) = match (first.len(), third.len()) {
        (4, 1 | 2) => (first, second, third),
        (1 | 2, 4) => (third, first, second),
        _ => return None,
    };
    let (year, one, other) = (number(year)?, number(one)?, number(other)?);
    let possible = (1000..=2999).contains(&year)
        && second.len() <= 2
        && one.min(other) >= 1
        && one.min(other) <= 12
        && one.max(other) <= 31;
    let plain = |part: &&str| part.trim_start_matches('0').to_owned();
    possible.then(|| parts.iter().map(plain).collect::<Vec<_>>().join("-"))
}

/// `555-1234`, `(555) 123-4567`, `555-123-4567`, `1-800-555-1234`.
fn is_telephone(text: &str) -> bool {
    let lengths: Vec<usize> =
        text.split(|c: char| !c.is_ascii_digit()).map(str::len).filter(|length| *length > 0).collect();
    let dashed = text.contains('-') && !text.contains(['/', '.']) && !text.contains(" - ") && !text.starts_with('-');
    dashed && !text.contains("--") && matches!(lengths.as_slice(), [3, 4] | [3, 3, 4] | [1 | 2, 3, 3, 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_telephone_numbers_are_no_arithmetic() {
        for (text, digits) in [
            ("2023-05-06", "2023-5-6"),
            ("5/6/2023", "5-6-2023"),
            ("05/06/2023", "5-6-2023"),
            ("31.12.1999", "31-12-1999"),
            ("555-1234", "555-1234"),
            ("(555) 123-4567", "555-123-4567"),
            ("1-800-555-1234", "1-800-555-1234"),
        ] {
            assert_eq!(code(text), Some(Answer::Words(format!("code {digits}"))), "{text}");
        }
        for text in ["3/4/2", "10-3", "100-1000-1", "2023 - 5 - 6", "-555-1234", "45-67-2023", "555", "1.5", ""] {
            assert_eq!(code(text), None, "{text}");
        }
    }
}
