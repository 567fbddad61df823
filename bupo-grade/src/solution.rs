//! Takes the answer out of a right answer that holds a whole solution.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::{boxed, remarks};

/// What [`right_answer`] found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RightAnswer<'a> {
    /// The text is a plain answer.
    AsItStands(&'a str),
    /// The text holds more than its answer.
    Extracted {
        /// The answer alone.
        answer: Cow<'a, str>,
        /// How it was found.
        mark: AnswerMark,
    },
    /// The text is long, and nothing in it marks an answer.
    NotFound,
}

/// How the answer is marked in a solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMark {
    /// `#### 72` on a line of its own, as in GSM8K.
    Hashes,
    /// `<answer>72</answer>`
    Tag,
    /// `\boxed{72}`
    Box,
    /// `The answer is 72.`
    Sentence,
    /// `["72"]`, a JSON list of one text.
    JsonList,
}

impl fmt::Display for AnswerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hashes => "####",
            Self::Tag => "<answer>",
            Self::Box => "\\boxed",
            Self::Sentence => "\"the answer is\"",
            Self::JsonList => "a JSON list",
        })
    }
}

/// The answer in the text that a data file gives as the right answer.
///
/// Marks are looked for in this order: a JSON list of one text, the last `####`, the last `<answer>` tag, the last box
/// with a content, and the last sentence or line that begins like `The answer is`. A text without a mark is a plain
/// answer, unless it has more than 40 words of prose, or more than 15 on several lines.
///
/// ```
/// use bupo_grade::{AnswerMark, RightAnswer, right_answer};
///
/// let solution = "48/2 = 24 clips in May.\n#### 72";
/// let extracted = RightAnswer::Extracted { answer: "72".into(), mark: AnswerMark::Hashes };
/// assert_eq!(right_answer(solution), extracted);
/// assert_eq!(right_answer("x = 5"), RightAnswer::AsItStands("x = 5"));
/// ```
pub fn right_answer(text: &str) -> RightAnswer<'_> {
    let text = text.trim();
    if let Some(only) = only_item(text) {
        let answer = match right_answer(&only) {
            RightAnswer::Extracted { answer, .. } => answer.into_owned(),
            _ => only,
        };
        return RightAnswer::Extracted { answer: answer.into(), mark: AnswerMark::JsonList };
    }
    if let Some(answer) = after_hashes(text) {
        return found(answer, AnswerMark::Hashes);
    }
    if let Some(answer) = boxed::tagged(text) {
        return found(boxed::unboxed(answer), AnswerMark::Tag);
    }
    match boxed::last_box(text) {
        Some(Some(answer)) => return found(answer, AnswerMark::Box),
        Some(None) => return RightAnswer::NotFound,
        None => {}
    }
    if let Some(answer) = announced(text) {
        return found(answer, AnswerMark::Sentence);
    }
    if is_long(text) { RightAnswer::NotFound } else { RightAnswer::AsItStands(text) }
}

fn found(answer: &str, mark: AnswerMark) -> RightAnswer<'_> {
    RightAnswer::Extracted { answer: answer.trim().into(), mark }
}

/// The text in a JSON list of one.
fn only_item(text: &str) -> Option<String> {
    if !text.starts_with('[') || !text[1..].trim_start().starts_with('"') {
        return None;
    }
    let [only]: [String; 1] = serde_json::from_str::<Vec<String>>(text).ok()?.try_into().ok()?;
    (!only.trim().is_empty()).then_some(only)
}

fn after_hashes(text: &str) -> Option<&str> {
    let at = text.rfind("####")?;
    let starts_line =
        text[..at].trim_end_matches([' ', '#']).is_empty() || text[..at].trim_end_matches([' ', '#']).ends_with('\n');
    let answer = text[at + 4..].trim().lines().next()?.trim();
    (starts_line && !answer.is_empty()).then_some(answer)
}

/// What follows the label of the last line or sentence that has one.
fn announced(text: &str) -> Option<&str> {
    let lines = text.lines().rev().take(MOST_LINES);
    lines.flat_map(|line| sentences(line).into_iter().rev()).find_map(remarks::labelled)
}

const MOST_LINES: usize = 100;
const MOST_BYTES: usize = 2000;

/// A line cut after each full stop that a space follows.
fn sentences(line: &str) -> Vec<&str> {
    line.split_inclusive(". ")
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty() && sentence.len() < MOST_BYTES)
        .collect()
}

fn is_long(text: &str) -> bool {
    let word = |word: &&str| {
        word.len() > 1 && word.chars().all(|c| c.is_alphabetic() || matches!(c, ',' | '.' | '\'' | ';' | ':'))
    };
    let words = text.split_whitespace().filter(word).count();
    words > MOST_WORDS || (words > MOST_WORDS_ON_LINES && text.lines().count() > 1)
}

const MOST_WORDS: usize = 40;
const MOST_WORDS_ON_LINES: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_answer_is_extracted() {
        for (text, answer, mark) in [
            ("Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 72", "72", AnswerMark::Hashes),
            ("calc\n#### 1,072\n", "1,072", AnswerMark::Hashes),
            ("#### 5", "5", AnswerMark::Hashes),
            ("<answer>72</answer>", "72", AnswerMark::Tag),
            ("I add.\n<answer> \\boxed{72} </answer>", "72", AnswerMark::Tag),
            ("Adding, we get \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}", AnswerMark::Box),
            ("\\boxed{72}", "72", AnswerMark::Box),
            ("\\boxed{3} is too small, so \\boxed{4}.", "4", AnswerMark::Box),
            ("The answer is 72.", "72", AnswerMark::Sentence),
            ("The answer is 72", "72", AnswerMark::Sentence),
            ("We add 2. So the answer is $72$.", "72", AnswerMark::Sentence),
            ("We add 2.\nFinal answer: x = 5", "x = 5", AnswerMark::Sentence),
            ("**Answer:** 1,000", "1,000", AnswerMark::Sentence),
            ("Therefore, the correct answer is (B).", "(B)", AnswerMark::Sentence),
            ("The answer is 0.5. It is exact.", "0.5", AnswerMark::Sentence),
            ("[\"72\"]", "72", AnswerMark::JsonList),
            ("[ \"\\\\frac{1}{2}\" ]", "\\frac{1}{2}", AnswerMark::JsonList),
            ("[\"The answer is 72.\"]", "72", AnswerMark::JsonList),
        ] {
            assert_eq!(right_answer(text), RightAnswer::Extracted { answer: answer.into(), mark }, "{text}");
        }
    }

    #[test]
    fn a_plain_answer_stays_as_it_stands() {
        for text in [
            "72",
            "-\\frac{1}{2}",
            "Yes",
            "A, B and C",
            "x = 5",
            "[1, 2)",
            "[72]",
            "[1, 2]",
            "(B) 12",
            "no solution",
            "\\{1, 2\\}",
            "5 \\text{ cm}",
            "The set is empty.",
            "Yes, the answer is positive",
            "72.",
            "#5",
            "C#",
            "All primes greater than 3 that are not divisible by 5",
            "\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}",
            "[\"A\", \"B\"]",
            "[\"A\"",
            "f(x) = x^2, \\text{ for all } x",
            "answer",
            "option price",
            "3 > 2",
            "",
        ] {
            assert_eq!(right_answer(text), RightAnswer::AsItStands(text), "{text}");
        }
        assert_eq!(right_answer(" 72\n"), RightAnswer::AsItStands("72"));
    }

    #[test]
    fn a_long_text_without_a_mark_has_no_answer() {
        let proof = "Suppose that the number is even, then half of it is whole and so on ".repeat(4);
        assert_eq!(right_answer(&proof), RightAnswer::NotFound);
        let lines = "We add both sides of the equation here.\nThen we divide by two and find what was to be found.";
        assert_eq!(right_answer(lines), RightAnswer::NotFound);
        assert_eq!(right_answer("So it is \\boxed{7"), RightAnswer::NotFound);
    }
}
