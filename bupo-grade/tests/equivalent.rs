//! The equivalence rule on a table of answers that are the same and of near misses, in both directions.
#![allow(clippy::unwrap_used)]

use bupo_grade::equivalent;
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    /// The content of a box, or a whole response.
    response: String,
    answer: String,
    same: bool,
    kind: String,
}

fn table() -> Vec<Row> {
    include_str!("equivalent.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn same(given: &str, answer: &str) -> bool {
    equivalent(&format!("So the answer is \\boxed{{{given}}}."), answer).score == 1.0
}

#[test]
fn the_table_is_large_and_a_near_half_of_it_are_near_misses() {
    let rows = table();
    let misses = rows.iter().filter(|row| !row.same).count();
    assert!(rows.len() > 2000 && misses * 100 > rows.len() * 45, "{misses} of {}", rows.len());
}

#[test]
fn every_pair_is_judged_right_in_both_directions() {
    let mut wrong = Vec::new();
    for row in table() {
        let verdicts = [same(&row.response, &row.answer), same(&row.answer, &row.response)];
        if verdicts != [row.same; 2] {
            wrong.push(format!("{}: {} / {} is {verdicts:?}", row.kind, row.response, row.answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whole responses and right answers, by the kind of what is easily misread in them.
#[test]
fn every_kind_of_answer_is_judged_right() {
    let rows: Vec<Row> =
        include_str!("classes.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.len() > 900 && rows.iter().filter(|row| !row.same).count() > 300);
    let mut wrong = Vec::new();
    for row in rows {
        let score = equivalent(&row.response, &row.answer).score;
        let content = row.response.strip_prefix("\\boxed{").and_then(|rest| rest.strip_suffix('}'));
        // Of a response that is one box, both directions.
        let back = match content {
            Some(content) if !matches!(row.kind.as_str(), "gold-with-solution" | "box") => same(&row.answer, content),
            _ => score == 1.0,
        };
        if [score == 1.0, back] != [row.same; 2] {
            wrong.push(format!("{}: {} / {} is {score}, back {back}", row.kind, row.response, row.answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_answer_without_a_box_is_found() {
    for (response, answer, score) in [
        ("Adding up, the answer is 0.5.", "\\frac{1}{2}", 1.0),
        ("The final answer is: $\\frac{1}{2}$. I hope it is correct.", "0.5", 1.0),
        ("**Answer:** \\(x = 3\\)", "3", 1.0),
        ("#### 1,250", "1250", 1.0),
        ("We get $x = 7$ and so $y = 12$.", "12", 1.0),
        ("We get $x = 7$ and so $y = 12$.", "7", 0.0),
        ("That makes 12 apples or 3 more", "3", 1.0),
        ("The answer is yes.", "Yes", 1.0),
        ("\\[ x = \\frac{3}{4} \\]", "0.75", 1.0),
        ("I cannot tell.", "5", 0.0),
        ("", "", 0.0),
    ] {
        assert_eq!(equivalent(response, answer).score, score, "{response} / {answer}");
    }
}

#[test]
fn the_last_box_is_graded_alone() {
    assert_eq!(equivalent("\\boxed{1} or \\boxed{2}", "2").score, 1.0);
    assert_eq!(equivalent("\\boxed{2} or \\boxed{1}", "2").score, 0.0);
    assert_eq!(equivalent("\\boxed{2} or \\boxed{1", "2").score, 0.0);
    assert_eq!(equivalent("\\boxed{2}", "\\boxed{2}").score, 1.0);
    assert_eq!(equivalent("\\boxed{2}", "$2$").score, 1.0);
    assert_eq!(equivalent("\\fbox{2}", "2").extracted.as_deref(), Some("2"));
}
