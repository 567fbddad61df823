//! The rule that compares numbers as exact rationals.

use num_bigint::{BigInt, BigUint};
use num_rational::BigRational;
use num_traits::{One, Pow, Zero};

use crate::item::Graded;
use crate::{boxed, expression};

/// The longest number that is read, in bytes, and the largest power of ten in it.
const MAX_LEN: usize = 1000;
const MAX_EXPONENT: i32 = 1000;

/// Grades by value: the response's number and `answer` are the same rational number, without any rounding.
///
/// The response's number is the content of its last box, which must be one number and nothing else; without any box, the
/// last number in the text, which must not be part of an expression such as `2^{10}`. A last box that never closes was
/// cut off: it has no number. `answer` must be one number.
///
/// A number is `42`, `-0.5`, `.5`, `1,234.5` (commas only between groups of three), `2.5e-3`, or a fraction of two of these
/// such as `3/4`. Digits within a word (`x2`) are no number. Dollar and percent signs around a number are ignored: `50%` is 50.
/// Numbers of more than 1,000 characters or with exponents beyond 1,000 are equal to nothing.
///
/// ```
/// assert_eq!(bupo_grade::numeric("That makes 1,250.0 in all.", "1250").score, 1.0);
/// assert_eq!(bupo_grade::numeric("So \\boxed{3/6}.", "0.5").score, 1.0);
/// assert_eq!(bupo_grade::numeric("So \\boxed{0.333}.", "1/3").score, 0.0);
/// ```
pub fn numeric(response: &str, answer: &str) -> Graded {
    let extracted = match boxed::last_box(response) {
        Some(content) => content.map(str::trim),
        None => boxed::tagged(response).or_else(|| expression::last_expression(response)).map(without_unit),
    };
    let same = match (extracted.and_then(whole), whole(answer)) {
        (Some(found), Some(right)) => found == right,
        _ => false,
    };
    Graded::new(same, extracted)
}

/// The value of a text that is one number and the signs around it.
fn whole(text: &str) -> Option<BigRational> {
    let around = |c: char| c.is_whitespace() || matches!(c, '$' | '\\');
    let text = text.trim_matches(around).trim_end_matches(['.', '%']).trim_matches(around);
    (span(text) == Some(text.len())).then(|| value(text)).flatten()
}

/// `5cm`, `5 \text{ cm}` and `€5` are 5 here.
fn without_unit(text: &str) -> &str {
    let text = text.trim_matches(['€', '£', '¥', '₹', '¢', '°']);
    let text = ["\\text{", "\\mathrm{"]
        .iter()
        .find_map(|command| text.split_once(command))
        .filter(|(number, unit)| !number.is_empty() && unit.strip_suffix('}').is_some_and(|unit| !unit.contains('}')))
        .map_or(text, |(number, _)| number.trim());
    const UNITS: [&str; 12] = ["cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "lb", "oz", "hr", "min"];
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if UNITS.contains(&&text[number.len()..]) { number } else { text }
}

/// The length of the number `text` starts with: a sign, a decimal and perhaps a slash and another decimal.
fn span(text: &str) -> Option<usize> {
    let start = sign(text).1;
    let top = start + decimal(&text[start..])?;
    let bottom = text[top..].strip_prefix('/').and_then(decimal);
    Some(bottom.map_or(top, |len| top + 1 + len))
}

/// Whether `text` starts with a minus, and the length of its sign.
fn sign(text: &str) -> (bool, usize) {
    match text.chars().next() {
        Some('+') => (false, 1),
        Some(minus @ ('-' | '\u{2212}')) => (true, minus.len_utf8()),
        _ => (false, 0),
    }
}

/// The length of the unsigned decimal `text` starts with.
fn decimal(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    let grouped = (1..=3).contains(&end) && bytes.first() != Some(&b'0');
    while grouped && bytes.get(end) == Some(&b',') && digits(end + 1) == 3 {
        end += 4;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if fraction > 0 {
            end += 1 + fraction;
        }
    }
    if end == 0 {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + signed);
        if exponent > 0 {
            end += 1 + signed + exponent;
        }
    }
    Some(end)
}

/// The value of a whole number as [`span`] finds it; nothing where it is too large or divides by 0.
fn value(text: &str) -> Option<BigRational> {
    if text.len() > MAX_LEN {
        return None;
    }
    let (negative, start) = sign(text);
    let (top, bottom) = match text[start..].split_once('/') {
        Some((top, bottom)) => (decimal_value(top)?, decimal_value(bottom)?),
        None => (decimal_value(&text[start..])?, BigRational::one()),
    };
    if bottom.is_zero() {
        return None;
    }
    let value = top / bottom;
    Some(if negative { -value } else { value })
}

fn decimal_value(text: &str) -> Option<BigRational> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    if !(-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
        return None;
    }
    let (units, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = units.chars().filter(char::is_ascii_digit).chain(fraction.chars()).collect();
    let mantissa = BigRational::from_integer(BigInt::from(digits.parse::<BigUint>().ok()?));
    let shift = exponent - i32::try_from(fraction.len()).ok()?;
    let power = BigRational::from_integer(BigInt::from(10u8).pow(shift.unsigned_abs()));
    Some(if shift < 0 { mantissa / power } else { mantissa * power })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(response: &str, answer: &str) -> bool {
        numeric(response, answer).score == 1.0
    }

    #[test]
    fn spellings_of_one_value_are_equal() {
        for (left, right) in [
            ("42", "42.000"),
            ("+42", "042"),
            ("-.5", "-1/2"),
            ("\u{2212}3", "-3"),
            ("1,234,567.5", "1234567.5"),
            ("2.5e-3", "0.0025"),
            ("1E3", "1000"),
            ("50%", "50"),
            ("50\\%", "$50$"),
            ("\\$1,000", "1000"),
            ("0.1/0.3", "1/3"),
            ("-0", "0"),
            (" 7. ", "7"),
            ("1e1000", "10e999"),
            ("0.1234567890123456789", "1234567890123456789/10000000000000000000"),
        ] {
            assert!(same(&format!("\\boxed{{{left}}}"), right), "{left} {right}");
            assert!(same(&format!("\\boxed{{{right}}}"), left), "{right} {left}");
        }
    }

    #[test]
    fn other_values_and_other_texts_are_not() {
        for (left, right) in [
            ("42", "-42"),
            ("0.333333333333333333", "1/3"),
            ("0.1234567890123456789", "0.1234567890123456788"),
            ("50%", "0.5"),
            ("12,34", "1234"),
            ("0,125", "125"),
            ("1234,567", "1234567"),
            ("x = 5", "5"),
            ("5 cm", "5"),
            ("(1, 2)", "2"),
            ("\\frac{1}{2}", "2"),
            ("3 4", "4"),
            ("", ""),
            ("Yes", "Yes"),
            ("1/0", "1/0"),
            ("1e1001", "1e1001"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert!(!same(&format!("\\boxed{{{left}}}"), right), "{left} {right}");
        }
        let (long, longer) = ("9".repeat(MAX_LEN), "9".repeat(MAX_LEN + 1));
        assert!(same(&long, &long));
        assert!(!same(&longer, &longer));
    }

    #[test]
    fn without_a_box_the_last_number_counts() {
        for (text, number) in [
            ("We get 3, then 42.", Some("42")),
            ("it costs $1,250.50!", Some("1,250.50")),
            // Never a part of something else.
            ("1,2,3", Some("1,2,3")),
            ("10-3", Some("10-3")),
            ("f(2)-3", Some("f(2)-3")),
            ("adding \\frac{1}{2}", Some("\\frac{1}{2}")),
            ("is 2^{10}", Some("2^{10}")),
            ("x=-3", Some("-3")),
            ("x = \u{2212}3\u{fc}", Some("\u{2212}3")),
            ("3/4 of x2 and H_2", Some("3/4")),
            ("4/x", Some("4/x")),
            ("about 1e-3cm", Some("1e-3")),
            ("2e", Some("2e")),
            ("\u{7b54}\u{6848}\u{662f}5", Some("5")),
            ("no idea", None),
            ("", None),
        ] {
            assert_eq!(numeric(text, "1").extracted.as_deref(), number, "{text}");
        }
    }

    #[test]
    fn a_box_beats_later_numbers_and_a_cut_off_one_has_none() {
        assert!(same("\\boxed{1} \\boxed{2} see line 3", "2"));
        assert_eq!(numeric("1 \\boxed{2", "2"), Graded::new(false, None));
    }

    #[test]
    fn hostile_texts_are_read_in_linear_time() {
        for unit in ["1", "1,", "1,111", "1/", "1e", "-", ".", "\u{2212}", "1.1", "9e9/"] {
            let text = unit.repeat(300_000);
            assert!(!same(&text, "5"), "{unit}");
        }
    }
}
