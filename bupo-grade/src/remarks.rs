//! Takes the wrappers, the label and the remarks off an answer: `**Answer: 73**, which is prime` is `73`.

use crate::labels::{LEADS, TEXT_COMMANDS, first_text_command, label, single_letter, without_label, word};

/// The answer in a text that holds little else. Conditions (`if`, `for`, `where`, `but`) are part of an answer and stay.
pub(crate) fn bare(text: &str) -> &str {
    let mut text = text.trim();
    for _ in 0..MOST_LAYERS {
        let next = without_remark(without_label(unwrapped(text))).trim();
        if next.is_empty() || next.len() == text.len() {
            return text;
        }
        text = next;
    }
    text
}

const MOST_LAYERS: usize = 8;

/// The answer in a sentence that begins like `The answer is`; `None` for other sentences.
pub(crate) fn labelled(sentence: &str) -> Option<&str> {
    let sentence = sentence.trim().trim_start_matches(['*', '_', '#', ' ']);
    let mut rest = sentence;
    while let Some(after) = word(rest, &LEADS).or_else(|| word(rest, &["and"])) {
        rest = after.trim_start_matches([',', ' ', ':']);
    }
    let answer = label(rest).filter(|answer| !single_letter(rest) && !answer.is_empty())?;
    // `option C` is an answer and not a sentence about one.
    let announces =
        ["is", "are", "equals", "=", ":"].iter().any(|verb| rest[..rest.len() - answer.len()].contains(verb));
    let dots = answer.len() - answer.trim_end_matches('.').len();
    let answer = if dots == 1 { answer.trim_end_matches('.') } else { answer };
    let answer = bare(answer.trim_end_matches(['*', '!', ' ']));
    (announces && !answer.is_empty()).then_some(answer)
}

/// Pairs of signs that only set an answer off.
const WRAPPERS: [(&str, &str); 10] = [
    ("<answer>", "</answer>"),
    ("**", "**"),
    ("__", "__"),
    ("```", "```"),
    ("`", "`"),
    ("\"", "\""),
    ("$$", "$$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("$", "$"),
];

fn unwrapped(text: &str) -> &str {
    for (open, close) in WRAPPERS {
        if let Some(inside) = text.strip_prefix(open).and_then(|rest| rest.trim_end_matches('.').strip_suffix(close))
            && !inside.contains(close)
            && !inside.ends_with('\\')
            && !inside.trim().is_empty()
        {
            return inside.trim();
        }
    }
    if let Some(inside) = text_command(text)
        && (without_label(inside).len() != inside.len() || without_remark(inside).len() != inside.len())
    {
        return inside;
    }
    text
}

/// The content of the one text command that `text` is.
fn text_command(text: &str) -> Option<&str> {
    let (inside, rest) = first_text_command(text)?;
    rest.is_empty().then_some(inside)
}

/// How remarks begin, and whether only a separator may stand before them.
const REMARKS: [(&str, bool); 46] = [
    ("which is", true),
    ("which equals", true),
    ("which means", true),
    ("which simplifies", true),
    ("as desired", false),
    ("as claimed", false),
    ("as required", false),
    ("as requested", false),
    ("as expected", false),
    ("as wanted", false),
    ("as needed", false),
    ("as stated", false),
    ("as asked", false),
    ("as shown", false),
    ("as we", true),
    ("as was", true),
    ("as it", true),
    ("as before", false),
    ("the only", true),
    ("by ", true),
    ("q.e.d", true),
    ("done", true),
    ("we are done", true),
    ("and we are done", false),
    ("qed", true),
    ("because", false),
    ("since", false),
    ("so ", true),
    ("hence", true),
    ("thus", true),
    ("therefore", true),
    ("respectively", false),
    ("in total", false),
    ("altogether", false),
    ("in simplest form", false),
    ("in lowest terms", false),
    ("approx", true),
    ("or approximately", false),
    ("or about", false),
    ("or roughly", false),
    ("about ", true),
    ("roughly ", true),
    ("rounded", true),
    ("\\approx", true),
    ("≈", true),
    ("i.e.", true),
];

/// Without a remark at the end: `73, as claimed`, `2\sqrt{5} (approximately 4.47)`.
fn without_remark(text: &str) -> &str {
    for sign in ["\\blacksquare", "\\square", "\\Box", "\\qed", "∎", "■", "□"] {
        if let Some(head) = text.strip_suffix(sign) {
            return trimmed_end(head);
        }
    }
    if !text.contains([' ', '~', '(', ',']) {
        return text;
    }
    if let Some(head) = before_number_word(text) {
        return head;
    }
    let lowered = text.to_ascii_lowercase();
    let starts = REMARKS.iter().flat_map(|(remark, strict)| lowered.match_indices(remark).map(|(at, _)| (at, *strict)));
    let mut starts: Vec<(usize, bool)> = starts.take(MOST_MATCHES).collect();
    starts.sort_unstable();
    starts.into_iter().find_map(|(at, strict)| before_remark(text, at, strict)).unwrap_or(text)
}

/// What stands before `(seventy-two)`.
fn before_number_word(text: &str) -> Option<&str> {
    const WORDS: [&str; 29] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
        "thirty",
        "forty",
        "fifty",
        "sixty",
        "seventy",
        "eighty",
        "ninety",
        "hundred",
    ];
    let (head, words) = text.trim_end_matches('.').strip_suffix(')')?.rsplit_once('(')?;
    let lowered = words.to_ascii_lowercase();
    let numbers = lowered.split([' ', '-']).all(|word| WORDS.contains(&word) || matches!(word, "thousand" | "and"));
    (numbers && !head.trim().is_empty() && !head.ends_with("\\text{")).then(|| head.trim_end())
}

const MOST_MATCHES: usize = 100;

/// What stands before the remark that starts at `at`, where it is one.
fn before_remark(text: &str, at: usize, strict: bool) -> Option<&str> {
    let head = &text[..at];
    let spaced = trimmed_end(head);
    let spaced = TEXT_COMMANDS.iter().find_map(|command| spaced.strip_suffix(command)).unwrap_or(spaced);
    let mut head = trimmed_end(spaced);
    let parenthesis = head.ends_with('(');
    let separated = parenthesis
        || head.ends_with([',', ';'])
        || (head.ends_with('-') && text[head.len()..].starts_with([' ', '~']));
    if !separated && (strict || spaced.len() == at) {
        return None;
    }
    if parenthesis {
        // The parenthesis must hold the remark and end the text.
        let rest = text[at..].trim_end_matches(['}', '.', '$', ' ', '*']);
        if rest.strip_suffix(')').is_none_or(|inside| inside.contains(')')) {
            return None;
        }
    }
    head = head.trim_end_matches(['(', ',', ';', '-', ' ', '~']);
    head = trimmed_end(head);
    head = TEXT_COMMANDS.iter().find_map(|command| head.strip_suffix(command)).unwrap_or(head);
    head = trimmed_end(head).trim_end_matches([',', ';']);
    let balanced = head.matches('{').count() == head.matches('}').count();
    let in_text =
        || TEXT_COMMANDS.iter().any(|command| head.rfind(command).is_some_and(|at| !head[at..].contains('}')));
    (head.chars().any(char::is_alphanumeric) && (balanced || in_text())).then_some(head)
}

/// Without spaces of any kind at the end.
fn trimmed_end(text: &str) -> &str {
    let mut text = text;
    loop {
        let next = text.trim_end_matches([' ', '~', '\n', '\t']);
        let next =
            ["\\,", "\\;", "\\quad", "\\!", "\\"].iter().find_map(|space| next.strip_suffix(space)).unwrap_or(next);
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
    fn labels_wrappers_and_remarks_are_taken_off() {
        for (text, answer) in [
            ("\\text{Answer: }5", "5"),
            ("\\text{Answer: 5}", "5"),
            ("\\textbf{Answer:} 5", "5"),
            ("\\text{Answer}: 5", "5"),
            ("\\text{The answer is } 5", "5"),
            ("The answer is 72.", "72."),
            ("**Answer:** 5", "5"),
            ("\\therefore 5", "5"),
            ("#### 1,072", "1,072"),
            ("`5`", "5"),
            ("<answer>x+1</answer>", "x+1"),
            ("option C", "C"),
            ("Choice (C)", "(C)"),
            ("$5$", "5"),
            ("73, which is prime", "73"),
            ("73; done", "73"),
            ("73 - as claimed", "73"),
            ("73, as desired", "73"),
            ("73 because it is prime", "73"),
            ("\\text{73, which is prime}", "73"),
            ("2\\sqrt{5} \\text{ (approximately 4.47)}", "2\\sqrt{5}"),
            ("2\\sqrt{5}\\ (\\approx 4.47)", "2\\sqrt{5}"),
            ("2\\sqrt{5}, \\text{which is about } 4.47", "2\\sqrt{5}"),
            ("2 and 3, respectively", "2 and 3"),
            ("Yes, since it is even", "Yes"),
        ] {
            assert_eq!(bare(text), answer, "{text}");
        }
    }

    #[test]
    fn answers_stay_as_they_are() {
        for text in [
            "5",
            "x = 5",
            "A, B and C",
            "Yes",
            "\\text{Yes, but only for } n = 1",
            "\\text{approximately } 5",
            "\\text{The sum of the answers}",
            "5 - x",
            "$5$ or $6$",
            "\\text{answer}",
            "results in 5",
            "(1, 2)",
            "5 (or 7)",
            "2, so-called",
            "n, \\text{ where } n \\text{ is even}",
            "",
        ] {
            assert_eq!(bare(text), text, "{text}");
        }
    }
}
