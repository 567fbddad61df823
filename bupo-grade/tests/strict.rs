//! The strict rule on a table that hits each of its steps, in their order.
#![allow(clippy::unwrap_used)]

use bupo_grade::{Graded, strict};
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    response: String,
    answer: String,
    score: f64,
}

#[test]
fn every_row_has_the_score_of_the_reference() {
    let rows: Vec<Row> = include_str!("strict.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.len() > 100);
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| strict(&row.response, &row.answer).score != row.score)
        .map(|row| format!("{} / {}: not {}", row.response, row.answer, row.score))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_was_taken_is_reported_as_written() {
    let taken = |response: &str| strict(response, "1").extracted;
    assert_eq!(taken("so \\boxed{ \\dfrac12 }."), Some(" \\dfrac12 ".to_owned()));
    assert_eq!(taken("so \\boxed 3 cm$ and"), Some("3 cm".to_owned()));
    assert_eq!(taken("so 3"), None);
    assert_eq!(strict("so \\boxed{1}", "1"), Graded { score: 1.0, extracted: Some("1".to_owned()) });
}

#[test]
fn integers_longer_than_the_reference_reads_are_no_fraction() {
    let long = "7".repeat(4301);
    let short = "7".repeat(4300);
    let score = |digits: &str| strict(&format!("\\boxed{{{digits}/2}}"), &format!("\\frac{{{digits}}}{{2}}")).score;
    assert_eq!((score(&short), score(&long)), (1.0, 0.0));
}
