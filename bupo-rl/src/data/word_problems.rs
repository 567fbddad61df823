//! Word problems of arithmetic, which can be given to any model.

use std::collections::HashSet;

use bupo_data::{Message, Problem, Prompt};
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::arithmetic::Arithmetic;

/// Their data source.
pub(super) const SOURCE: &str = "arithmetic-words";

/// How many are drawn; with small numbers and few terms, fewer of them are different.
const DRAWN: usize = 4096;

const NAMES: [&str; 8] = ["Ana", "Ben", "Chidi", "Emma", "Hugo", "Lin", "Omar", "Priya"];
const THINGS: [&str; 8] = ["apple", "book", "coin", "egg", "marble", "pencil", "stamp", "ticket"];
const GAINS: [&str; 3] = ["buys", "finds", "gets"];
const LOSSES: [&str; 3] = ["gives away", "loses", "sells"];

/// Different word problems about sums and differences of this size, the same in every run:
/// `Ana has 12 apples. Ana buys 7 more. Ana loses 3. How many apples does Ana have now? Reply with the number only.`
pub(super) fn word_problems(size: &Arithmetic) -> Vec<Problem> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut seen = HashSet::new();
    let drawn = (0..DRAWN).map(|_| word_problem(&size.terms(&mut rng), &mut rng));
    drawn.filter(|(text, _)| seen.insert(text.clone())).map(|(text, answer)| problem(text, answer)).collect()
}

fn problem(text: String, answer: i64) -> Problem {
    Problem {
        prompt: Prompt::Chat(vec![Message { role: "user".into(), content: text }]),
        answer: answer.to_string(),
        data_source: SOURCE.into(),
    }
}

/// The text about signed terms, the first of which is positive, and their sum.
fn word_problem(terms: &[i64], rng: &mut ChaCha8Rng) -> (String, i64) {
    let (name, thing) = (chosen(&NAMES, rng), chosen(&THINGS, rng));
    let mut sentences = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let number = term.abs();
        sentences.push(match (index, *term > 0) {
            (0, _) => format!("{name} has {number} {thing}{}.", if number == 1 { "" } else { "s" }),
            (_, true) => format!("{name} {} {number} more.", chosen(&GAINS, rng)),
            (_, false) => format!("{name} {} {number}.", chosen(&LOSSES, rng)),
        });
    }
    sentences.push(format!("How many {thing}s does {name} have now? Reply with the number only."));
    (sentences.join(" "), terms.iter().sum())
}

fn chosen(from: &[&'static str], rng: &mut ChaCha8Rng) -> &'static str {
    from.choose(rng).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_each_term_and_its_answer_is_their_sum() {
        let problems = word_problems(&Arithmetic::default());
        assert!(problems.len() > 4000, "{}", problems.len());
        assert_eq!(problems, word_problems(&Arithmetic::default()));
        let mut lengths = HashSet::new();
        for problem in &problems {
            let Prompt::Chat(messages) = &problem.prompt else { panic!("{problem:?}") };
            let sentences: Vec<&str> = messages[0].content.split(". ").collect();
            let terms = sentences.iter().filter_map(|sentence| {
                let number: i64 = sentence.split(' ').find_map(|word| word.parse().ok())?;
                Some(if LOSSES.iter().any(|loss| sentence.contains(loss)) { -number } else { number })
            });
            let terms: Vec<i64> = terms.collect();
            lengths.insert(terms.len());
            assert_eq!(terms.iter().sum::<i64>().to_string(), problem.answer, "{problem:?}");
        }
        assert_eq!(lengths, HashSet::from([2, 3, 4]));
        assert!(word_problems(&Arithmetic { max_terms: 2, max_number: 2 }).len() < DRAWN);
    }
}
