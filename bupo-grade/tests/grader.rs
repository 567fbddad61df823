//! Rewards by source, mixed and with scorers.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use bupo_grade::{Failures, GradeError, Grader, Item, Rewards, equivalent, strict};
use common::{Script, each_line, scores};

fn item<'a>(data_source: &'a str, response: &'a str, answer: &'a str) -> Item<'a> {
    Item { response, answer, data_source, prompt: None }
}

fn rewards(text: &str) -> Rewards {
    toml::from_str(text).unwrap()
}

#[test]
fn every_item_is_graded_by_its_source_in_order() {
    let script =
        Script::new(&each_line("echo \"{\\\"score\\\": $answer, \\\"extracted\\\": \\\"from the script\\\"}\""));
    let grader = Grader::new(rewards(&format!(
        r#"
        [by_source]
        "scored_*" = "command:{}"
        number = "numeric"
        mixed = [{{ rule = "command:{}", weight = 1 }}, {{ rule = "exact", weight = 3 }}]
        "#,
        script.command, script.command,
    )))
    .unwrap();
    let responses: Vec<String> = (0..600).map(|n| format!("\\boxed{{{}.0}}", n % 10)).collect();
    let answers: Vec<String> = (0..600).map(|n| n.to_string()).collect();
    let sources = ["scored_a", "number", "mixed", "other"];
    let items: Vec<_> = (0..600).map(|n| item(sources[n % 4], &responses[n], &answers[n])).collect();
    let graded = grader.grade(&items);
    assert_eq!(graded.len(), 600);
    for (n, graded) in graded.iter().enumerate() {
        let expected = match n % 4 {
            0 => n as f64,
            1 => f64::from(n < 10),
            2 => n as f64 / 4.0,
            _ => 0.0,
        };
        assert_eq!(graded.graded.score, expected, "{n}");
        let extracted = if n % 2 == 0 { "from the script".to_owned() } else { format!("{}.0", n % 10) };
        assert_eq!(graded.graded.extracted, Some(extracted), "{n}");
        assert_eq!(graded.failure, None);
    }
    assert_eq!(grader.failures(), Failures::default());
    assert!(grader.grade(&[]).is_empty());
}

#[test]
fn the_functions_are_those_of_the_rules() {
    let items = [item("s", "\\boxed{\\dfrac12}", "\\frac{1}{2}"), item("e", "\\boxed{x+1}", "x+1"), item("s", "", "1")];
    let grader = Grader::new(rewards("rule = \"strict\"\n[by_source]\ne = \"equivalent\"")).unwrap();
    let graded: Vec<_> = grader.grade(&items).into_iter().map(|item| item.graded).collect();
    let expected = [
        strict(items[0].response, items[0].answer),
        equivalent(items[1].response, items[1].answer),
        strict(items[2].response, items[2].answer),
    ];
    assert_eq!(graded, expected);
}

#[test]
fn a_mix_is_the_mean_by_weight() {
    let text = |names: [&str; 3]| {
        let rules: Vec<_> = (names.iter().zip(["0.7", "0.2", "0.1"]))
            .map(|(name, weight)| format!("{{ rule = \"{name}\", weight = {weight} }}"))
            .collect();
        format!("rule = [{}]", rules.join(", "))
    };
    let grade = |names| Grader::new(rewards(&text(names))).unwrap().grade(&[item("", "\\boxed{5.0}", "5")]);
    // 0.7 + 0.2 + 0.1 is less than 1 in floating point; right by every rule is 1 all the same.
    assert_eq!(scores(&grade(["numeric", "numeric", "numeric"])), [1.0]);
    let half = grade(["exact", "numeric", "exact"]);
    assert!((half[0].graded.score - 0.2).abs() < 1e-12);
    assert_eq!(half[0].graded.extracted.as_deref(), Some("5.0"));
}

#[test]
fn failures_are_counted_and_the_first_is_kept() {
    let script = Script::new(&each_line("[ $answer = 0 ] && { echo 'division by zero' >&2; exit 1; }\necho 1"));
    let rule =
        format!("rule = [{{ rule = \"command:{}\", weight = 1 }}, {{ rule = \"exact\", weight = 1 }}]", script.command);
    let grader = Grader::new(rewards(&rule)).unwrap();
    let graded = grader.grade(&[item("", "1", "1"), item("", "0", "0"), item("", "x", "2")]);
    assert_eq!(scores(&graded), [1.0, 0.5, 0.5]);
    assert_eq!(graded.iter().map(|item| item.failure.is_some()).collect::<Vec<_>>(), [false, true, false]);
    grader.grade(&[item("", "0", "0"), item("", "1", "1")]);
    let failures = grader.failures();
    assert_eq!(failures.count, 2);
    assert!(failures.first.unwrap().contains("division by zero"));
}

#[test]
fn what_cannot_work_is_refused_before_grading() {
    let refused = |text: &str| Grader::new(rewards(text)).unwrap_err();
    assert!(matches!(refused("rule = []"), GradeError::Weights { .. }));
    assert!(matches!(refused("[by_source]\n\"a*b\" = \"exact\""), GradeError::Pattern(_)));
    assert!(matches!(refused("[by_source]\na = \"command:/no/such/program\""), GradeError::Command { .. }));
}
