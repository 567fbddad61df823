//! Cleans, measures, shortens and wraps text.

/// Widths of the characters from space to `~` in DejaVu Sans, in thousandths of the font size. DejaVu Sans is wider than
/// most fonts that a browser falls back to.
#[rustfmt::skip]
const ASCII: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863,
    748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635,
    615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636,
    337, 636, 838,
];

/// Replaces or removes characters that XML forbids, and control characters that would affect the layout.
pub(crate) fn clean(text: &str) -> String {
    let mut marks = 0;
    let few_marks = |c: &char| {
        // No letter needs more than three combining marks; stacks of many would cover other text.
        marks = if zero_width(*c) { marks + 1 } else { 0 };
        marks <= 3
    };
    text.chars().filter_map(visible).filter(few_marks).collect()
}

/// An upper bound of the width of a text at a font size.
pub(crate) fn measure(text: &str, size: f64) -> f64 {
    text.chars().map(em).sum::<f64>() * size
}

/// The text cleaned, with its middle replaced by `…` if it is wider than `room`.
pub(crate) fn shorten(text: &str, size: f64, room: f64) -> String {
    let text = clean(text);
    let text = text.trim();
    if measure(text, size) <= room {
        return text.to_owned();
    }
    let room = room / size - em('…');
    if room <= 0.0 {
        return String::new();
    }
    // Names differ at both ends, so both are kept; the beginning, which is read first, gets slightly more.
    let head = fitting(text.chars(), room * 0.55);
    let tail = fitting(text.chars().rev(), room * 0.45);
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(text.chars().count() - tail).collect();
    format!("{}…{}", head.trim_end(), tail.trim_start())
}

/// The text cleaned and broken at spaces into at most `max_lines` lines, each shortened if it does not fit.
pub(crate) fn wrap(text: &str, size: f64, room: f64, max_lines: usize) -> Vec<String> {
    let mut words = text.split_whitespace().map(clean).filter(|word| !word.is_empty()).peekable();
    let mut lines = Vec::new();
    while let Some(mut line) = words.next() {
        let last = lines.len() + 1 >= max_lines;
        while let Some(word) = words.next_if(|word| last || measure(&line, size) + measure(word, size) + size < room) {
            line.push(' ');
            line.push_str(&word);
        }
        lines.push(shorten(&line, size, room));
    }
    lines
}

/// The character, a visible replacement, or `None` if it is to be removed.
fn visible(c: char) -> Option<char> {
    match c {
        '\n' | '\r' | '\u{2028}' | '\u{2029}' => Some('↵'),
        '\t' => Some('⇥'),
        // Invisible characters and bidirectional controls.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' => None,
        '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}' => None,
        _ if c.is_control() || u32::from(c) & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c) => {
            Some('\u{fffd}')
        }
        // A single character that fonts draw as a whole sentence.
        '\u{fdfd}' => Some('\u{fffd}'),
        _ => Some(c),
    }
}

/// Whether a character is a combining mark, a joiner or a variation selector.
fn zero_width(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{200c}' | '\u{200d}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}')
}

/// An upper bound of the width of a character, in em.
fn em(c: char) -> f64 {
    let thousandths = match c {
        ' '..='~' => ASCII[c as usize - 32],
        _ if zero_width(c) => 0,
        '·' => 318,
        '×' => 838,
        'Æ' | 'æ' | 'Œ' | 'œ' => 1080,
        'Ǆ'..='ǌ' => 1430,
        'À'..='ɏ' | '\u{591}'..='\u{5ff}' => 810,
        '\u{370}'..='\u{3ff}' | 'а'..='я' => 950,
        'Ѐ'..='\u{6ff}' => 1230,
        '⁰'..='⁹' | '¹' | '²' | '³' => 401,
        '⁻' => 528,
        '–' => 500,
        '−' | '±' | '↵' | '⇥' | '←'..='↓' | '≤' | '≥' => 838,
        '\u{2e3a}' | '\u{2e3b}' => 3000,
        '‱' | '\u{27f5}'..='\u{27ff}' => 1740,
        '\u{1f000}'.. => 1400,
        _ => 1100,
    };
    f64::from(thousandths) / 1000.0
}

/// The number of leading characters that fit into `room`, in em.
fn fitting(characters: impl Iterator<Item = char>, mut room: f64) -> usize {
    characters
        .take_while(|c| {
            room -= em(*c);
            room >= 0.0
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_characters_are_replaced_or_removed() {
        for (given, cleaned) in [
            ("Ġthe", "Ġthe"),
            ("\n", "↵"),
            ("\t", "⇥"),
            ("\u{1b}[31mred\u{0}", "\u{fffd}[31mred\u{fffd}"),
            ("\u{ffff}\u{fffe}\u{7f}\u{85}", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("a\u{202e}b\u{200b}c\u{feff}", "abc"),
            ("e\u{301}\u{301}\u{301}\u{301}\u{301}!", "e\u{301}\u{301}\u{301}!"),
            ("👩\u{200d}🔬", "👩\u{200d}🔬"),
        ] {
            assert_eq!(clean(given), cleaned);
        }
    }

    #[test]
    fn long_text_is_shortened_in_the_middle() {
        let long = "Qwen3-4B-Base trained on DeepMath with internal-policy alignment at layer 6, seed 17";
        let short = shorten(long, 11.0, 200.0);
        assert!(short.starts_with("Qwen3-4B") && short.ends_with("seed 17") && short.contains('…'), "{short}");
        assert!(measure(&short, 11.0) <= 200.0 && measure(&short, 11.0) > 170.0);
        assert_eq!(shorten("short", 11.0, 200.0), "short");
        assert_eq!(shorten("anything", 11.0, 5.0), "");
        assert_eq!(shorten("WWWW", 10.0, 12.0), "…");
    }

    #[test]
    fn wrapping_keeps_all_words_that_fit() {
        let text = "one two three four five six";
        let lines = wrap(text, 10.0, 90.0, 9);
        assert_eq!(lines.join(" "), text);
        assert!(lines.len() > 1 && lines.iter().all(|line| measure(line, 10.0) <= 90.0), "{lines:?}");
        assert_eq!(wrap(text, 10.0, 90.0, 2).len(), 2);
        assert_eq!(wrap("two\nlines", 10.0, 90.0, 2), ["two lines"]);
        assert!(wrap(" \n\u{200b} ", 10.0, 90.0, 2).is_empty());
    }
}
