//! maj@K: the score of a majority vote over a problem's responses.

use std::collections::BTreeMap;

use crate::metrics::ResponseOutcome;

/// The expected score of the answer that most responses give, as a response of that answer would be judged: 1 if right,
/// else 0. Of several such answers each is taken with the same probability, so that the score is the share of the right
/// ones among them.
///
/// Answers are the same if their extracted texts are, spaces aside. Responses without an extracted answer do not vote;
/// without any vote the score is 0.
pub(crate) fn majority(responses: &[ResponseOutcome]) -> f64 {
    // By answer: the votes, and how many of these responses are right.
    let mut votes: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for response in responses {
        let Some(answer) = &response.answer else { continue };
        let answer: String = answer.chars().filter(|c| !c.is_whitespace()).collect();
        let (count, right) = votes.entry(answer).or_default();
        *count += 1;
        *right += usize::from(response.is_right());
    }
    let most = votes.values().map(|(count, _)| *count).max().unwrap_or(0);
    let tied: Vec<f64> = votes
        .values()
        .filter(|(count, _)| *count == most)
        // A scorer may judge responses of the same answer differently.
        .map(|(count, right)| *right as f64 / *count as f64)
        .collect();
    tied.iter().sum::<f64>() / tied.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Responses by answer; a capital letter is right, a dash is no answer.
    fn vote(answers: &str) -> f64 {
        let response = |answer: char| ResponseOutcome {
            score: f64::from(u8::from(answer.is_uppercase())),
            tokens: 1,
            finished: true,
            answer: (answer != '-').then(|| answer.to_string()),
        };
        majority(&answers.chars().map(response).collect::<Vec<_>>())
    }

    #[test]
    fn the_most_frequent_answer_counts_and_ties_count_by_their_share() {
        for (answers, expected) in [
            ("AAb", 1.0),
            ("Abb", 0.0),
            ("AbAb", 0.5),
            ("Abc", 1.0 / 3.0),
            ("bbcc", 0.0),
            ("A", 1.0),
            ("b", 0.0),
            // Responses without an answer do not vote.
            ("A---", 1.0),
            ("---", 0.0),
            ("", 0.0),
        ] {
            assert!((vote(answers) - expected).abs() < 1e-12, "{answers}: {}", vote(answers));
        }
    }

    #[test]
    fn spaces_do_not_separate_answers_and_judgements_may_differ() {
        let response =
            |answer: &str, score| ResponseOutcome { score, tokens: 1, finished: true, answer: Some(answer.into()) };
        assert_eq!(
            majority(&[response("1 / 2", 1.0), response("1/2", 1.0), response("3", 0.0), response("4", 0.0)]),
            1.0
        );
        assert_eq!(majority(&[response("2", 1.0), response("2", 0.0)]), 0.5);
    }
}
