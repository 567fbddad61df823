//! Finds the answer in a response.

/// What the strict rule reads: the last `\boxed{...}` whose braces match, or the last `\boxed x` up to the next `$`.
///
/// A `\boxed ` followed by a space anywhere wins over every braced one, as in the reference.
pub(crate) fn strict_box(response: &str) -> Option<&str> {
    if let Some(at) = response.rfind("\\boxed ") {
        let content = &response[at + "\\boxed ".len()..];
        return Some(content.split('$').next().unwrap_or(content));
    }
    let content = response[response.rfind("\\boxed")?..].strip_prefix("\\boxed{")?;
    let mut open = 1usize;
    for (at, byte) in content.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(&content[..at]);
        }
    }
    None
}

/// What the equivalence rule reads: the last box; without any box, the text after the last announcement
/// (`the answer is`, `####`), else the last formula, else the last number.
///
/// A response whose last box never closes was cut off: it has no answer, whatever stands before the box.
pub(crate) fn final_answer(response: &str) -> Option<&str> {
    match last_box(response) {
        Some(content) => content,
        None => announced(response).or_else(|| last_formula(response)).or_else(|| last_number(response)),
    }
    .map(str::trim)
    .filter(|answer| !answer.is_empty())
}

/// The content of `text` where `text` as a whole is one box.
pub(crate) fn unboxed(text: &str) -> &str {
    last_box(text).flatten().unwrap_or(text)
}

const BOXES: [&str; 3] = ["\\boxed", "\\fbox", "\\framebox"];

/// `None`: there is no box. `Some(None)`: the last box is unclosed or empty of any argument.
pub(crate) fn last_box(text: &str) -> Option<Option<&str>> {
    let (start, name) =
        BOXES.iter().filter_map(|name| text.rfind(name).map(|at| (at, *name))).max_by_key(|(at, _)| *at)?;
    let rest = text[start + name.len()..].trim_start();
    Some(match rest.strip_prefix('{') {
        Some(content) => close(content).map(|end| &content[..end]),
        // `\boxed 5`, as TeX allows: up to the end of the formula.
        None => Some(rest.split(['$', '\n']).next().unwrap_or(rest)).filter(|content| !content.trim().is_empty()),
    })
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

const ANNOUNCEMENTS: [&str; 6] = ["answer is", "answer:", "answer =", "answer equals", "result is", "####"];

fn announced(response: &str) -> Option<&str> {
    // Lowering ASCII only keeps every byte offset.
    let lowered = response.to_ascii_lowercase();
    let after = ANNOUNCEMENTS.iter().filter_map(|words| lowered.rfind(words).map(|at| at + words.len())).max()?;
    let rest = response[after..].trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '*' | '='));
    if let Some(formula) = first_formula(rest.lines().next().unwrap_or(rest)) {
        return Some(formula);
    }
    let line = rest.lines().next()?;
    let sentence = line.find(". ").map_or(line, |end| &line[..end]);
    Some(sentence.trim().trim_end_matches(['.', '*', '!', ' '])).filter(|answer| !answer.is_empty())
}

const DELIMITERS: [(&str, &str); 4] = [("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")];

/// The formula that `text` starts with or holds, when nothing but words stands before it.
fn first_formula(text: &str) -> Option<&str> {
    let (start, open, shut) = DELIMITERS
        .iter()
        .filter_map(|(open, shut)| text.find(open).map(|at| (at, *open, *shut)))
        .min_by_key(|(at, open, _)| (*at, usize::MAX - open.len()))?;
    if text[..start].ends_with('\\') || text[..start].bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let content = &text[start + open.len()..];
    content.find(shut).map(|end| &content[..end])
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
            (paired && !content.trim().is_empty()).then_some((end, content))
        })
        .max_by_key(|(end, _)| *end)
        .map(|(_, content)| content)
}

fn last_number(response: &str) -> Option<&str> {
    let bytes = response.as_bytes();
    let end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'/');
    let mut start = bytes[..end].iter().rposition(|byte| !part(byte)).map_or(0, |at| at + 1);
    start += bytes[start..end].iter().take_while(|byte| matches!(byte, b',' | b'/')).count();
    if start > 0 && bytes[start - 1] == b'-' {
        start -= 1;
    }
    response.get(start..end)
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
        assert_eq!(final_answer("\\boxed{1} and then \\boxed{2}."), Some("2"));
        assert_eq!(final_answer("\\fbox{ \\{1, 2\\} }"), Some("\\{1, 2\\}"));
        assert_eq!(final_answer("\\boxed 5$ done"), Some("5"));
        assert_eq!(final_answer("first \\boxed{1}, then \\boxed{2"), None);
        assert_eq!(final_answer("\\boxed{}"), None);
    }

    #[test]
    fn a_response_without_a_box_is_read_by_its_announcement() {
        assert_eq!(final_answer("We get 3. The answer is 42. Good."), Some("42"));
        assert_eq!(final_answer("**Final answer:** $\\frac12$"), Some("\\frac12"));
        assert_eq!(final_answer("The final answer is \\(x+1\\)."), Some("x+1"));
        assert_eq!(final_answer("so 7 - 3 = 4\n#### 4"), Some("4"));
        assert_eq!(final_answer("Since $a$ is odd, $b = 2$ holds."), Some("b = 2"));
        assert_eq!(final_answer("That makes 12 or 1,250."), Some("1,250"));
        assert_eq!(final_answer("That makes -0.5"), Some("-0.5"));
        assert_eq!(final_answer("no idea"), None);
        assert_eq!(final_answer(""), None);
    }
}
