//! The string rule of the reference implementation, in the same order of steps.

use crate::boxed;
use crate::item::Graded;

/// Grades with the reference's string rule: the last box and `answer` are normalised and compared character by
/// character.
///
/// The rule knows some spellings (`\dfrac`, `\frac12`, `x = 5`, `50\%`, `5 \text{ cm}`) and no mathematics: it does not
/// equate 0.25 with 1/4, 1,000 with 1000, or `\text{Yes}` with Yes. It exists for parity with published results.
///
/// ```
/// assert_eq!(bupo_grade::strict("So \\boxed{\\dfrac12}.", "\\frac{1}{2}").score, 1.0);
/// assert_eq!(bupo_grade::strict("So \\boxed{0.25}.", "\\frac{1}{4}").score, 0.0);
/// ```
pub fn strict(response: &str, answer: &str) -> Graded {
    let extracted = boxed::strict_box(response);
    let same = extracted.is_some_and(|content| match (normalised(content), normalised(answer)) {
        (Some(content), Some(answer)) => content == answer,
        // Where the reference's normalisation fails on either side, it compares what was written.
        _ => content == answer,
    });
    Graded::new(same, extracted)
}

/// `None` where the reference's normalisation raises an error.
fn normalised(text: &str) -> Option<String> {
    let mut text = text.replace('\n', "").replace("\\!", "").replace("\\\\", "\\");
    for (from, to) in [("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", "")] {
        text = text.replace(from, to);
    }
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "");
    text = without_unit(text)?;
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    text = without_name(text);
    text = braced_roots(&text)?.replace(' ', "");
    text = braced_fractions(text)?;
    if text == "0.5" {
        text = "\\frac{1}{2}".to_owned();
    }
    Some(slash_fraction(&text).unwrap_or(text))
}

/// Keeps what stands before `\text{ `; two of them are an error.
fn without_unit(text: String) -> Option<String> {
    let mut parts = text.split("\\text{ ");
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(_), None) => Some(before.to_owned()),
        (_, None, _) => Some(text),
        _ => None,
    }
}

/// `x=5` is `5`: exactly one `=`, and a left side of at most two characters.
fn without_name(text: String) -> String {
    match text.split_once('=') {
        Some((name, value)) if !value.contains('=') && name.chars().count() <= 2 => value.to_owned(),
        _ => text,
    }
}

/// `\sqrt3` is `\sqrt{3}`; a `\sqrt` with nothing after it is an error.
fn braced_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut braced = parts.next()?.to_owned();
    for part in parts {
        let first = part.chars().next()?;
        if first == '{' {
            braced.push_str("\\sqrt");
            braced.push_str(part);
        } else {
            braced.push_str(&format!("\\sqrt{{{first}}}{}", &part[first.len_utf8()..]));
        }
    }
    Some(braced)
}

/// `\frac12` is `\frac{1}{2}`. A `\frac` with nothing after it is an error; with one character, nothing is changed.
fn braced_fractions(text: String) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut braced = parts.next()?.to_owned();
    for part in parts {
        braced.push_str("\\frac");
        let mut rest = part.chars();
        let numerator = rest.next()?;
        if numerator == '{' {
            braced.push_str(part);
            continue;
        }
        let Some(denominator) = rest.next() else { return Some(text) };
        let written = if denominator == '{' { "{".to_owned() } else { format!("{{{denominator}}}") };
        braced.push_str(&format!("{{{numerator}}}{written}{}", rest.as_str()));
    }
    Some(braced)
}

/// A whole `3/4` is `\frac{3}{4}`, where both are written as an integer prints.
fn slash_fraction(text: &str) -> Option<String> {
    let (numerator, denominator) = text.split_once('/')?;
    (is_printed_integer(numerator) && is_printed_integer(denominator))
        .then(|| format!("\\frac{{{numerator}}}{{{denominator}}}"))
}

/// The reference reads integers of at most this many digits.
const MOST_DIGITS: usize = 4300;

fn is_printed_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.len() <= MOST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain && (text == "0" || !digits.starts_with('0'))
}
