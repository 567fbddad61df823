//! Mathematical equivalence of answers.

mod answer;
mod brackets;
mod characters;
mod choice;
mod compare;
mod comparer;
mod decimal;
mod evaluate;
mod extract;
mod factor;
mod formula;
mod inequality;
mod intervals;
mod join;
mod lexer;
mod named;
mod names;
mod number;
mod opaque;
mod parser;
mod quantity;
mod reader;
mod region;
mod scalar;
mod signs;
mod statement;
mod symbol;
mod token;
mod tree;
mod unit;
mod words;
mod written;

use std::borrow::Cow;

use crate::boxed::is_placeholder;
use crate::item::Graded;
use crate::remarks;
use crate::solution::{RightAnswer, right_answer};
use comparer::Comparer;
use number::Fuel;
use written::Written;

/// Longer answers are compared as written.
const MOST_BYTES: usize = 4000;
/// Longer texts are not searched for the answer of a solution.
const MOST_SOLUTION_BYTES: usize = 20_000;
/// The work that one comparison may take.
const WORK: u64 = 8_000_000;

/// Grades by mathematics: 1 when the response's answer and `answer` are the same, however they are written.
///
/// The response's answer is its last `\boxed{...}` with a content. Without a box it is what stands in `<answer>` tags,
/// else what follows `the answer is`, else the last formula, else the last number with the expression it is part of.
/// A response that ends inside of its last box has no answer.
///
/// ```
/// assert_eq!(bupo_grade::equivalent("So \\boxed{0.5}.", "\\frac{1}{2}").score, 1.0);
/// assert_eq!(bupo_grade::equivalent("It is 100 cm.", "1 \\text{ m}").score, 1.0);
/// assert_eq!(bupo_grade::equivalent("So \\boxed{0.333}.", "1/3").score, 0.0);
/// ```
pub fn equivalent(response: &str, answer: &str) -> Graded {
    let extracted = extract::final_answer(response);
    // What is no answer in a box is no right answer either, so that the verdict does not depend on the direction.
    let is_same = extracted.is_some_and(|given| !is_placeholder(answer) && same_text(given, answer));
    Graded::new(is_same, extracted)
}

fn same_text(given: &str, answer: &str) -> bool {
    let (given, answer) = (without_solution(given), without_solution(answer));
    let (given, answer) = (given.trim(), answer.trim());
    if given == answer {
        return true;
    }
    if given.len().max(answer.len()) > MOST_BYTES {
        return without_spaces(given).eq(without_spaces(answer));
    }
    let (given, answer) = (characters::usual(given), characters::usual(answer));
    let (given, answer) = (remarks::bare(&given), remarks::bare(&answer));
    if given == answer {
        // Invisible characters alone are no answer.
        return !given.is_empty();
    }
    // In a fixed order, so that the verdict cannot depend on which one is the response.
    let (first, second) = if given <= answer { (given, answer) } else { (answer, given) };
    let (first, second) = (Written::new(first), Written::new(second));
    if first.looks_like(&second) {
        return true;
    }
    let fuel = Fuel::new(WORK);
    let (mine, theirs) = (first.readings(&second, &fuel), second.readings(&first, &fuel));
    mine.iter().any(|mine| theirs.iter().any(|theirs| Comparer { fuel: &fuel }.same(mine, theirs)))
}

/// The answer in a text that holds a whole solution, else the text.
fn without_solution(text: &str) -> Cow<'_, str> {
    if text.len() > MOST_SOLUTION_BYTES {
        return Cow::Borrowed(text);
    }
    match right_answer(text) {
        RightAnswer::Extracted { answer, .. } => answer,
        _ => Cow::Borrowed(text),
    }
}

fn without_spaces(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !c.is_whitespace())
}
