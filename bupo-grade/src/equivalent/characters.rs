//! Replaces Unicode characters that only look different, and removes invisible ones.
//!
//! An own table instead of NFKC normalization (`unicode-normalization`): NFKC turns `x²` into `x2`.

use std::borrow::Cow;

/// The text in the characters that the lexer knows.
pub(super) fn usual(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii() => out.push(c),
            c if is_invisible(c) => {}
            // After a number it is a degree sign, elsewhere the composition of functions.
            '∘' if out.trim_end().ends_with(|c: char| c.is_ascii_digit() || matches!(c, '^' | '{' | '}' | ')')) => {
                out.push('°');
            }
            '℃' => out.push_str("°C"),
            '℉' => out.push_str("°F"),
            '″' => out.push_str("''"),
            c => out.push(look_alike(c)),
        }
    }
    Cow::Owned(out)
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

fn look_alike(c: char) -> char {
    match c {
        '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{3000}' => ' ',
        '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{2796}' | '\u{fe58}' => '-',
        // Full-width forms, as East Asian keyboards write them.
        '\u{ff01}'..='\u{ff5e}' => shifted(c, 0xff01, '!'),
        '\u{1d7ce}'..='\u{1d7ff}' => char::from(b'0' + ((c as u32 - 0x1d7ce) % 10) as u8),
        '\u{1d400}'..='\u{1d6a3}' => {
            let at = ((c as u32 - 0x1d400) % 52) as u8;
            char::from(if at < 26 { b'A' + at } else { b'a' + at - 26 })
        }
        '\u{1d6a8}'..='\u{1d7cb}' => mathematical_greek((c as u32 - 0x1d6a8) % 58).unwrap_or(c),
        '\u{660}'..='\u{669}' => shifted(c, 0x660, '0'),
        '\u{6f0}'..='\u{6f9}' => shifted(c, 0x6f0, '0'),
        '\u{966}'..='\u{96f}' => shifted(c, 0x966, '0'),
        _ => paired(c).unwrap_or(c),
    }
}

/// The character as far from `to` as `c` is from `from`.
fn shifted(c: char, from: u32, to: char) -> char {
    char::from_u32(c as u32 - from + to as u32).unwrap_or(c)
}

fn mathematical_greek(at: u32) -> Option<char> {
    match at {
        25 => Some('∇'),
        0..=24 => char::from_u32(0x391 + at),
        26..=50 => char::from_u32(0x3b1 + at - 26),
        _ => None,
    }
    .map(|c| paired(c).unwrap_or(c))
}

fn paired(c: char) -> Option<char> {
    const FROM: &str = "º˚µ\u{2126}\u{212a}\u{212b}∶﹕ːⅇℯⅈⅉℎℊ✕✖⨯⨉∗⁎﹡⧸、。‚٫٬،‘’‛`“”„≦≧∣❘∥٪﹪﹩﹐﹒﹔﹖﹗﹙﹚﹛﹜﹟﹠﹢﹣﹤﹥﹦➕【】〔〕❨❩⟮⟯〈〉";
    const TO: &str = "°°μΩKÅ:::eeiihg××××***/,.,.,,'''`\"\"\"≤≥||‖%%$,.;?!(){}#&+-<>=+[][]()()⟨⟩";
    // Cyrillic and Greek letters that are drawn like Latin ones.
    const LETTERS: &str = "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧο";
    const LATIN: &str = "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXo";
    let in_table = |from: &str, to: &str| from.chars().position(|other| other == c).and_then(|at| to.chars().nth(at));
    in_table(FROM, TO).or_else(|| in_table(LETTERS, LATIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_become_the_usual_characters() {
        for (text, usual_text) in [
            ("5\u{a0}000", "5 000"),
            ("\u{fe63}5", "-5"),
            ("\u{2011}5", "-5"),
            ("\u{200b}5\u{feff}", "5"),
            ("45∘", "45°"),
            ("f∘g", "f∘g"),
            ("20℃", "20°C"),
            ("𝟓𝟓", "55"),
            ("𝑥 + 𝐘", "x + Y"),
            ("𝜋", "π"),
            ("１＋２", "1+2"),
            ("٣", "3"),
            ("А", "A"),
            ("3∶4", "3:4"),
            ("5µm", "5μm"),
            ("x²½", "x²½"),
        ] {
            assert_eq!(usual(text), usual_text, "{text}");
        }
    }

    #[test]
    fn both_tables_have_one_character_for_each() {
        for c in "º℃〉⟯❨﹦ο".chars().filter(|c| *c != '℃') {
            assert!(paired(c).is_some(), "{c}");
        }
        assert_eq!((paired('〉'), paired('ο'), paired('﹣')), (Some('⟩'), Some('o'), Some('-')));
    }
}
