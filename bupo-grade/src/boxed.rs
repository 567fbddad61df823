//! Finds boxes and answer tags in a text.

use crate::braces::until_closing;

/// What the strict rule reads: the last `\boxed{...}` whose braces match, or the last `\boxed x` up to the next `$`.
///
/// A `\boxed ` followed by a space anywhere wins over every braced one, as in the reference.
pub(crate) fn strict_box(response: &str) -> Option<&str> {
    if let Some(at) = response.rfind("\\boxed ") {
        let content = &response[at + "\\boxed ".len()..];
        return Some(content.split('$').next().unwrap_or(content));
    }
    let content = response[response.rfind("\\boxed")?..].strip_prefix("\\boxed{")?;
    until_closing(content)
}

/// The content of the last box that has one. `None`: there is no such box. `Some(None)`: the last box never closes.
///
/// Boxes that are only mentioned (`in \boxed{}`, `use \boxed as told`) or hold a placeholder are passed over.
pub(crate) fn last_box(text: &str) -> Option<Option<&str>> {
    let mut boxes: Vec<usize> =
        BOXES.iter().flat_map(|name| text.match_indices(name).map(|(at, name)| at + name.len())).collect();
    boxes.sort_unstable();
    for start in boxes.into_iter().rev() {
        let rest = text[start..].trim_start();
        match rest.strip_prefix('{') {
            Some(content) => match close(content) {
                None => return Some(None),
                Some(end) if is_placeholder(&content[..end]) => {}
                Some(end) => return Some(Some(&content[..end])),
            },
            None => {
                if let Some(content) = unbraced(rest) {
                    return Some(Some(content));
                }
            }
        }
    }
    None
}

/// The content of the last box of `text`, or `text` where there is none.
pub(crate) fn unboxed(text: &str) -> &str {
    last_box(text).flatten().unwrap_or(text)
}

/// The content of the last `<answer>` tag that has one; up to the end where it does not close.
pub(crate) fn tagged(text: &str) -> Option<&str> {
    let content = &text[text.rfind("<answer>")? + "<answer>".len()..];
    let content = content.find("</answer>").map_or(content, |end| &content[..end]).trim();
    (!content.is_empty()).then_some(content)
}

const BOXES: [&str; 3] = ["\\boxed", "\\fbox", "\\framebox"];

/// `\boxed 5`, as TeX allows: up to the end of the formula. Words without the end of a formula are prose.
fn unbraced(rest: &str) -> Option<&str> {
    let end = rest.find(['$', '\n']).unwrap_or(rest.len());
    let content = rest[..end].trim();
    let mut chars = content.chars();
    let first = chars.next()?;
    let word = first.is_alphabetic() && chars.next().is_some_and(char::is_alphabetic);
    let mathematical =
        first.is_alphanumeric() || matches!(first, '\\' | '-' | '+' | '(' | '[' | '|' | '.' | '\u{2212}');
    let closed = rest[end..].starts_with('$');
    (mathematical && (closed || !word) && content.chars().any(char::is_alphanumeric)).then_some(content)
}

/// Whether a box stands for the answer without holding one: `\boxed{}`, `\boxed{...}`, `\boxed{\text{answer}}`.
pub(crate) fn is_placeholder(content: &str) -> bool {
    let content = content.trim();
    let inside = ["\\text{", "\\textbf{", "\\textit{", "\\mathrm{"]
        .iter()
        .find_map(|command| content.strip_prefix(command)?.strip_suffix('}'))
        .unwrap_or(content);
    let words =
        inside.trim_matches(|c: char| c.is_whitespace() || matches!(c, '$' | '[' | ']' | '<' | '>' | '~' | '{' | '}'));
    let words = words.to_ascii_lowercase();
    matches!(
        words.as_str(),
        "" | "..." | "…" | "?" | "\\" | "\\," | "\\quad" | "\\ldots" | "\\cdots" | "\\dots" | "\\cdot"
    ) || matches!(words.as_str(), "answer" | "your answer" | "the answer" | "final answer" | "your final answer")
}

/// Where the brace that is open at the start of `content` closes; `\{` and `\}` are characters, not braces.
fn close(content: &str) -> Option<usize> {
    let mut open = 1usize;
    let mut escaped = false;
    for (at, byte) in content.bytes().enumerate() {
        match byte {
            b'\\' if !escaped => {
                escaped = true;
                continue;
            }
            b'{' if !escaped => open += 1,
            b'}' if !escaped => open -= 1,
            _ => {}
        }
        escaped = false;
        if open == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strict_box_follows_the_reference() {
        assert_eq!(strict_box("a \\boxed{1} b \\boxed{\\frac{1}{2}} c"), Some("\\frac{1}{2}"));
        assert_eq!(strict_box("\\boxed 7$ then \\boxed{8}"), Some("7"));
        assert_eq!(strict_box("\\boxed{1} \\boxed{2"), None);
        assert_eq!(strict_box("\\fbox{1}"), None);
        assert_eq!(strict_box("\\boxed7"), None);
        assert_eq!(strict_box("none"), None);
    }

    #[test]
    fn the_last_box_wins() {
        assert_eq!(last_box("\\boxed{1} and then \\boxed{2}."), Some(Some("2")));
        assert_eq!(last_box("\\fbox{ \\{1, 2\\} }"), Some(Some(" \\{1, 2\\} ")));
        assert_eq!(last_box("\\boxed 5$ done"), Some(Some("5")));
        assert_eq!(last_box("$\\boxed Less than 2$"), Some(Some("Less than 2")));
        assert_eq!(last_box("first \\boxed{1}, then \\boxed{2"), Some(None));
        assert_eq!(last_box("none"), None);
    }

    #[test]
    fn a_box_without_an_answer_is_passed_over() {
        for text in [
            "\\boxed{5}\\fbox{}",
            "\\boxed{5} \\boxed{ }",
            "\\boxed{5}, in a \\boxed{...} as asked",
            "\\boxed{5} (with \\boxed{\\text{answer}})",
            "\\boxed{5}. I used \\boxed as asked.",
            "\\boxed{5}. I used `\\boxed`.",
            "\\boxed{5}. See \\boxed.",
        ] {
            assert_eq!(last_box(text), Some(Some("5")), "{text}");
        }
        assert_eq!(last_box("It must be in \\boxed{}. It is 5."), None);
    }
}
