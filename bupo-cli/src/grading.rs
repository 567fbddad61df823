//! Grading by one rule.

use bupo_grade::{Grader, Reward, Rewards, Rule};

/// Rewards that apply one rule to all responses.
pub fn rewards(rule: &Rule) -> Rewards {
    Rewards { rule: Reward::Rule(rule.clone()), ..Rewards::default() }
}

/// Whether answers are extracted from reference answers that hold a whole solution; a scorer gets reference answers as they are.
pub fn extracts_answers(rule: &Rule) -> bool {
    !matches!(rule, Rule::Command(_))
}

/// Warns of responses that a scorer failed to score.
pub fn warn_of_failures(grader: &Grader) {
    let failures = grader.failures();
    if let Some(first) = failures.first {
        eprintln!(
            "warning: the scorer failed on {} responses, which score 0; the first failure: {first}",
            failures.count
        );
    }
}
