//! Reference answers that hold a whole solution.

use std::collections::BTreeMap;
use std::fmt;

use bupo_data::Problem;
use bupo_grade::{AnswerMark, RightAnswer, right_answer};

/// How reference answers that hold a whole solution were handled. Displayed as a clause, empty if there were none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnswerCounts {
    /// Answers extracted, by their mark.
    pub extracted: BTreeMap<AnswerMark, usize>,
    /// Long reference answers without a marked answer, used as they are.
    pub not_found: usize,
}

impl AnswerCounts {
    /// Adds the counts of another file.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.extracted {
            *self.extracted.entry(*mark).or_default() += count;
        }
        self.not_found += other.not_found;
    }
}

impl fmt::Display for AnswerCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks: Vec<String> = self.extracted.iter().map(|(mark, count)| format!("{count} by {mark}")).collect();
        let mut clauses = Vec::new();
        if !marks.is_empty() {
            clauses.push(format!("reference answers extracted from solutions: {}", marks.join(", ")));
        }
        if self.not_found > 0 {
            clauses.push(format!("{} long reference answers without a marked answer used as they are", self.not_found));
        }
        f.write_str(&clauses.join("; "))
    }
}

/// Replaces reference answers that hold a whole solution by the answer alone. Long ones without a marked answer are kept.
pub fn extract_answers(problems: &mut [Problem]) -> AnswerCounts {
    let mut counts = AnswerCounts::default();
    for problem in problems {
        let answer = match right_answer(&problem.answer) {
            RightAnswer::AsItStands(_) => continue,
            RightAnswer::Extracted { answer, mark } => {
                *counts.extracted.entry(mark).or_default() += 1;
                answer.into_owned()
            }
            RightAnswer::NotFound => {
                counts.not_found += 1;
                continue;
            }
        };
        problem.answer = answer;
    }
    counts
}

#[cfg(test)]
mod tests {
    use bupo_data::Prompt;

    use super::*;

    #[test]
    fn answers_are_extracted_from_solutions_and_counted() {
        let long = "first we add the numbers and then we see ".repeat(10);
        let answers =
            ["72", "48/2 = 24 clips in May.\n#### 72", "So \\boxed{\\frac{1}{2}}.", "[\"72\"]", &long, "1,000"];
        let mut problems: Vec<Problem> = answers
            .iter()
            .map(|answer| Problem {
                prompt: Prompt::Text("?".into()),
                answer: answer.to_string(),
                data_source: String::new(),
            })
            .collect();
        let counts = extract_answers(&mut problems);
        let found: Vec<&str> = problems.iter().map(|problem| problem.answer.as_str()).collect();
        assert_eq!(found, ["72", "72", "\\frac{1}{2}", "72", &long, "1,000"]);
        let expected = [(AnswerMark::Hashes, 1), (AnswerMark::Box, 1), (AnswerMark::JsonList, 1)];
        assert_eq!((counts.extracted.clone(), counts.not_found), (expected.into(), 1));
        let summary = counts.to_string();
        assert!(summary.contains("1 by ####") && summary.contains("1 long"), "{summary}");
        assert_eq!(AnswerCounts::default().to_string(), "");
    }
}
