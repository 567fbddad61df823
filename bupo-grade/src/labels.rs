//! Takes labels off an answer: `Answer:`, `The answer is`, `\therefore`, `option`.

/// Without `Answer:`, `The answer is`, `\therefore`, `option` and the like at the start.
pub(crate) fn without_label(text: &str) -> &str {
    for sign in ["\\therefore", "\\implies", "\\Rightarrow", "\\Longrightarrow", "∴", "⇒", "=>", "####"] {
        if let Some(rest) = text.strip_prefix(sign).filter(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            return rest.trim();
        }
    }
    if let Some((inside, rest)) = first_text_command(text)
        && !rest.trim().is_empty()
    {
        let inside = inside.trim_end_matches(['*', ' ']);
        let leads = word(inside.trim_end_matches([',', ':']), &LEADS).is_some_and(str::is_empty);
        let named = inside.len() > 2
            && inside.ends_with(':')
            && inside[..inside.len() - 1].chars().all(|c| c.is_alphabetic() || c == ' ');
        if leads || named || label(inside) == Some("") {
            return rest.trim_start_matches([' ', '~', ':']).trim_start_matches("\\ ").trim();
        }
        let rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix(':')
            && label(&format!("{inside}:")) == Some("")
        {
            return rest.trim();
        }
    }
    label(text.trim_start_matches(['*', '_'])).filter(|rest| !rest.is_empty()).unwrap_or(text)
}

/// What follows the label at the start; empty where the text is nothing else.
pub(crate) fn label(text: &str) -> Option<&str> {
    let mut rest = text;
    let mut led = false;
    while let Some(after) = word(rest, &LEADS) {
        rest = after.trim_start_matches([',', ' ', ':']);
        led = true;
    }
    let start = rest;
    while let Some(after) = word(rest, &["the", "my", "our", "final", "correct", "right", "required", "desired"]) {
        rest = after.trim_start();
    }
    const NOUNS: [&str; 11] = [
        "answers",
        "answer",
        "results",
        "result",
        "solutions",
        "solution",
        "choice",
        "option",
        "ans",
        "value",
        "values",
    ];
    if let Some(after) = word(rest, &NOUNS) {
        let after = after.trim_start_matches(['*', '_', ' ']);
        let is_choice = single_letter(after);
        let after_verb = word(after, &["is", "are", "equals", "="]).map(str::trim_start);
        if let Some(after) = after_verb.or_else(|| after.strip_prefix('=')) {
            return Some(without_adverbs(after.trim_start_matches([':', '*', ' '])));
        }
        if let Some(after) = after.strip_prefix(':') {
            return Some(without_adverbs(after.trim_start_matches(['*', ' '])));
        }
        if is_choice {
            return Some(after);
        }
        return None;
    }
    let mathematical = start.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\' | '-' | '('));
    (led && mathematical).then_some(start)
}

/// The content of the text command at the start, and what follows it.
pub(crate) fn first_text_command(text: &str) -> Option<(&str, &str)> {
    let content = TEXT_COMMANDS.iter().find_map(|command| text.strip_prefix(command))?;
    let (inside, rest) = content.split_once('}')?;
    (!inside.contains('{')).then_some((inside.trim(), rest))
}

pub(crate) fn without_adverbs(text: &str) -> &str {
    let mut rest = text;
    const ADVERBS: [&str; 14] = [
        "simply",
        "just",
        "therefore",
        "thus",
        "hence",
        "then",
        "clearly",
        "indeed",
        "exactly",
        "precisely",
        "obviously",
        "option",
        "choice",
        "equal to",
    ];
    while let Some(after) = word(rest, &ADVERBS).map(|after| after.trim_start_matches([',', ':', ' '])) {
        if after.is_empty() {
            return rest;
        }
        rest = after;
    }
    rest
}

/// What follows one of `words` at the start of `text`, in any case and as a whole word.
pub(crate) fn word<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    words.iter().find_map(|word| {
        let start = text.get(..word.len())?;
        let rest = &text[word.len()..];
        let whole = !rest.starts_with(|c: char| c.is_alphanumeric());
        (whole && start.eq_ignore_ascii_case(word)).then_some(rest)
    })
}

/// Whether `text` is the letter of a choice: `C`, `(C)`, `**C**.`
pub(crate) fn single_letter(text: &str) -> bool {
    let letter = text.trim_matches(|c: char| matches!(c, '(' | ')' | '*' | '.' | ' ' | '$'));
    letter.len() == 1 && letter.bytes().all(|byte| byte.is_ascii_uppercase())
}

pub(crate) const TEXT_COMMANDS: [&str; 7] =
    ["\\text{", "\\textbf{", "\\textit{", "\\textrm{", "\\mathrm{", "\\mbox{", "\\mathbf{"];

pub(crate) const LEADS: [&str; 8] = ["exactly", "precisely", "so", "thus", "hence", "therefore", "then", "finally"];
