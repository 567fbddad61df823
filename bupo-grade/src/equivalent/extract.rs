//! Finds the answer in a response.

use super::unit;
use crate::{boxed, expression, remarks};

/// The answer of a response, as it is written.
pub(super) fn final_answer(response: &str) -> Option<&str> {
    match boxed::last_box(response) {
        Some(content) => content,
        None => boxed::tagged(response)
            .or_else(|| announced(response))
            .or_else(|| last_formula(response))
            .or_else(|| expression::last_expression(response).map(|found| with_unit(response, found))),
    }
    .map(str::trim)
    .filter(|answer| !answer.is_empty())
}

/// `found` with the unit that follows it in `response`: `100 cm`.
fn with_unit<'a>(response: &'a str, found: &'a str) -> &'a str {
    let start = found.as_ptr() as usize - response.as_ptr() as usize;
    let end = start + found.len();
    let rest = &response[end..];
    let spaced = rest.trim_start_matches([' ', '~']);
    let is_of_unit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '^');
    let length = spaced.find(|c: char| !is_of_unit(c)).unwrap_or(spaced.len());
    let name = spaced[..length].split(['/', '^']).next().unwrap_or_default();
    let is_unit =
        found.ends_with(|c: char| c.is_ascii_digit()) && name.len() > 1 && name != "in" && unit::is_plainly_known(name);
    if is_unit { &response[start..end + rest.len() - spaced.len() + length] } else { found }
}

const ANNOUNCEMENTS: [&str; 16] = [
    "answer is",
    "answers are",
    "answer:",
    "answers:",
    "answer**:",
    "answer =",
    "answer equals",
    "result is",
    "result:",
    "solution is",
    "solutions are",
    "choice is",
    "option is",
    "choice:",
    "option:",
    "####",
];

fn announced(response: &str) -> Option<&str> {
    // Lowering ASCII only keeps every byte offset.
    let lowered = response.to_ascii_lowercase();
    let after = ANNOUNCEMENTS.iter().filter_map(|words| lowered.rfind(words).map(|at| at + words.len())).max()?;
    let rest = response[after..].trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '*' | '='));
    let line = start_of(rest.lines().next()?);
    let sentence = sentence(line);
    let answer = match leading_formula(line) {
        Some((formula, after)) if !goes_on(after) => formula,
        _ => remarks::bare(&sentence[adverbs(sentence)..]),
    };
    let dots = answer.len() - answer.trim_end_matches('.').len();
    let answer = if dots >= 3 { answer } else { answer.trim_end_matches(['.', '*', '!', ' ', '`']) };
    Some(remarks::bare(answer)).filter(|answer| !answer.is_empty())
}

/// The start of a line; what goes on behind it is no answer.
fn start_of(line: &str) -> &str {
    let mut end = line.len().min(MOST_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

const MOST_BYTES: usize = 2000;

/// Up to the first full stop, outside of formulas.
fn sentence(line: &str) -> &str {
    let mut in_formula = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'$' => in_formula = !in_formula,
            b'.' if !in_formula && line[at + 1..].starts_with(' ') && !abbreviates(&line[..at]) => return &line[..at],
            _ => {}
        }
    }
    line
}

/// Whether a full stop behind `text` ends no sentence.
fn abbreviates(text: &str) -> bool {
    ["i.e", "e.g", "approx", "sq", "Rs"].iter().any(|short| text.ends_with(short))
}

/// How long the words are that say nothing of the answer: `simply`, `therefore`.
fn adverbs(sentence: &str) -> usize {
    let rest = sentence.trim_start_matches([':', ' ']);
    // The label of an answer and its adverbs are taken off together.
    let labelled = format!("answer is {rest}");
    let bare = remarks::bare(&labelled);
    match rest.find(bare) {
        Some(at) if !bare.is_empty() && at <= MOST_ADVERBS && rest[..at].chars().all(is_of_words) => {
            sentence.len() - rest.len() + at
        }
        _ => sentence.len() - rest.len(),
    }
}

fn is_of_words(c: char) -> bool {
    c.is_alphabetic() || matches!(c, ' ' | ',' | ':' | '*')
}

const MOST_ADVERBS: usize = 40;

const DELIMITERS: [(&str, &str); 4] = [("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")];

/// The first formula, where nothing but words stands before it, and what follows it.
fn leading_formula(text: &str) -> Option<(&str, &str)> {
    let (start, open, shut) = DELIMITERS
        .iter()
        .filter_map(|(open, shut)| text.find(open).map(|at| (at, *open, *shut)))
        .min_by_key(|(at, open, _)| (*at, usize::MAX - open.len()))?;
    if text[..start].ends_with('\\') || text[..start].bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let content = &text[start + open.len()..];
    content.find(shut).map(|end| (&content[..end], &content[end + shut.len()..]))
}

/// Whether an answer goes on behind its first formula: with another one, or with a unit.
fn goes_on(after: &str) -> bool {
    let rest = after.trim_start();
    if rest.starts_with(['%', '\\']) {
        return true;
    }
    let word: String = rest.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
    let conjunction = matches!(word.as_str(), "and" | "or");
    if conjunction || rest.starts_with(',') {
        let next = rest[word.len().max(1)..].trim_start();
        let next = next.strip_prefix("and ").or_else(|| next.strip_prefix("or ")).unwrap_or(next).trim_start();
        return next.starts_with(['$', '-'])
            || next.starts_with("\\(")
            || next.starts_with(|c: char| c.is_ascii_digit());
    }
    word != "in" && (unit::is_known(&word) || matches!(word.as_str(), "degrees" | "percent"))
}

fn last_formula(response: &str) -> Option<&str> {
    DELIMITERS
        .iter()
        .filter_map(|(open, shut)| {
            let end = response.rfind(shut)?;
            let start = response[..end].rfind(open)? + open.len();
            let content = &response[start..end];
            // Between the closing dollar of one formula and the opening one of the next stands prose.
            let paired = *open != "$" || response[..start].matches('$').count() % 2 == 1;
            // Any box with a content was found before.
            let mentions_box = content.contains("\\boxed") || content.contains("\\fbox");
            (paired && !mentions_box && !content.trim().is_empty()).then_some((end, content))
        })
        .max_by_key(|(end, _)| *end)
        .map(|(_, content)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_wins() {
        assert_eq!(final_answer("\\boxed{1} and then \\boxed{2}."), Some("2"));
        assert_eq!(final_answer("\\fbox{ \\{1, 2\\} }"), Some("\\{1, 2\\}"));
        assert_eq!(final_answer("first \\boxed{1}, then \\boxed{2"), None);
        assert_eq!(final_answer("\\boxed{}"), None);
        assert_eq!(final_answer("It must be in \\boxed{}. It is 5."), Some("5"));
    }

    #[test]
    fn a_response_without_a_box_is_read_by_its_announcement() {
        for (response, answer) in [
            ("We get 3. The answer is 42. Good.", "42"),
            ("**Final answer:** $\\frac12$", "\\frac12"),
            ("The final answer is \\(x+1\\).", "x+1"),
            ("so 7 - 3 = 4\n#### 4", "4"),
            ("The answer is 73; done.", "73"),
            ("The answer is 73 - as claimed.", "73"),
            ("The answer is simply 73.", "73"),
            ("The answer is therefore 73.", "73"),
            ("Therefore, the correct choice is **C**.", "C"),
            ("The correct answer is C: 12", "C: 12"),
            ("The answers are 2 and 3", "2 and 3"),
            ("The answer is $2$ or $3$.", "$2$ or $3$"),
            ("The answer is $5$ cm.", "$5$ cm"),
            ("The answer is 0.333...", "0.333..."),
            ("<answer>x+1</answer>", "x+1"),
            ("It is 100 cm.", "100 cm"),
            ("It is 60 km/h.", "60 km/h"),
            ("So 12 apples.", "12"),
            ("Since $a$ is odd, $b = 2$ holds.", "b = 2"),
            ("That makes 12 or 1,250.", "1,250"),
            ("So the value is 2^{10}", "2^{10}"),
        ] {
            assert_eq!(final_answer(response), Some(answer), "{response}");
        }
        assert_eq!(final_answer("no idea"), None);
        assert_eq!(final_answer(""), None);
    }
}
