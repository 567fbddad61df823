//! The embedded arithmetic task: chains of additions and subtractions.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::synthetic::{SyntheticProblem, Task};

/// One problem in this many is held out: those whose hash is a multiple of it.
const HELD_OUT: u64 = 8;

/// Chains of additions and subtractions such as `37+58-14=`, answered by rewriting them one operation at a time:
/// `95-14=81`. What follows the last `=` is the answer. No step goes below zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arithmetic {
    /// The largest number of terms in a problem; the smallest is 2.
    pub max_terms: usize,
    /// The largest number in a problem; the smallest is 1.
    pub max_number: u32,
}

impl Default for Arithmetic {
    fn default() -> Self {
        Self { max_terms: 4, max_number: 30 }
    }
}

impl Task for Arithmetic {
    fn training_problem(&self, rng: &mut ChaCha8Rng) -> SyntheticProblem {
        self.draw(rng, false)
    }

    fn held_out_problem(&self, rng: &mut ChaCha8Rng) -> SyntheticProblem {
        self.draw(rng, true)
    }

    fn solution(&self, problem: &SyntheticProblem, slip_rate: f64, rng: &mut ChaCha8Rng) -> String {
        let mut terms = parse(problem.prompt.trim_end_matches('='));
        let mut steps = Vec::new();
        while terms.len() > 1 {
            let sum = terms.remove(0) + terms[0];
            terms[0] = if rng.random_bool(slip_rate) { slipped(sum, rng) } else { sum };
            steps.push(expression(&terms));
        }
        steps.join("=")
    }

    fn reward(&self, answer: &str, response: &str) -> f64 {
        f64::from(u8::from(Self::answer(response) == answer))
    }
}

impl Arithmetic {
    /// A response's answer: the text after its last `=`.
    pub(crate) fn answer(response: &str) -> &str {
        response.rsplit('=').next().unwrap_or_default().trim()
    }

    fn draw(&self, rng: &mut ChaCha8Rng, held_out: bool) -> SyntheticProblem {
        loop {
            let terms = self.terms(rng);
            let prompt = format!("{}=", expression(&terms));
            if hash(&prompt).is_multiple_of(HELD_OUT) == held_out {
                return SyntheticProblem { prompt, answer: terms.iter().sum::<i64>().to_string() };
            }
        }
    }

    /// Signed terms, the first of which is positive; no partial sum is below zero.
    pub(super) fn terms(&self, rng: &mut ChaCha8Rng) -> Vec<i64> {
        let count = rng.random_range(2..=self.max_terms.max(2));
        let mut sum = 0;
        (0..count)
            .map(|_| {
                let number = i64::from(rng.random_range(1..=self.max_number.max(1)));
                let term = if sum >= number && rng.random() { -number } else { number };
                sum += term;
                term
            })
            .collect()
    }
}

/// FNV-1a: the same on every machine and in every release.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Off by one or by ten, upwards or downwards, but not below zero.
fn slipped(sum: i64, rng: &mut ChaCha8Rng) -> i64 {
    let by = if rng.random() { 1 } else { 10 };
    if sum >= by && rng.random() { sum - by } else { sum + by }
}

/// Signed terms written as a sum: `37+58-14`.
fn expression(terms: &[i64]) -> String {
    let signed: String = terms.iter().map(|term| format!("{term:+}")).collect();
    signed.trim_start_matches('+').to_string()
}

fn parse(expression: &str) -> Vec<i64> {
    let spaced = expression.replace('+', " +").replace('-', " -");
    spaced.split_whitespace().filter_map(|term| term.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn problem(prompt: &str, answer: &str) -> SyntheticProblem {
        SyntheticProblem { prompt: prompt.into(), answer: answer.into() }
    }

    #[test]
    fn solutions_rewrite_one_operation_at_a_time() {
        let (task, mut rng) = (Arithmetic::default(), ChaCha8Rng::seed_from_u64(1));
        let mut solution = |prompt, answer| task.solution(&problem(prompt, answer), 0.0, &mut rng);
        assert_eq!(solution("37+58-14+6=", "87"), "95-14+6=81+6=87");
        assert_eq!(solution("3+4=", "7"), "7");
    }

    #[test]
    fn solutions_have_reward_1_and_near_misses_0() {
        let (task, mut rng) = (Arithmetic::default(), ChaCha8Rng::seed_from_u64(1));
        for _ in 0..200 {
            let problem = task.training_problem(&mut rng);
            let solution = task.solution(&problem, 0.0, &mut rng);
            assert_eq!(task.reward(&problem.answer, &solution), 1.0, "{problem:?} {solution}");
            assert_eq!(task.reward(&problem.answer, &format!("{solution}0")), 0.0);
            assert_eq!(task.reward(&problem.answer, &format!("{solution}=")), 0.0);
        }
        assert_eq!(task.reward("7", ""), 0.0);
        assert_eq!(task.reward("7", "17"), 0.0);
    }

    #[test]
    fn slips_make_their_share_of_answers_wrong() {
        let (task, mut rng) = (Arithmetic { max_terms: 2, max_number: 99 }, ChaCha8Rng::seed_from_u64(1));
        let right: f64 = (0..2000)
            .map(|_| {
                let problem = task.training_problem(&mut rng);
                task.reward(&problem.answer, &task.solution(&problem, 0.25, &mut rng))
            })
            .sum();
        assert!((right / 2000.0 - 0.75).abs() < 0.04, "{right}");
    }

    #[test]
    fn held_out_problems_are_never_trained_on() {
        let task = Arithmetic { max_terms: 2, max_number: 30 };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let training: HashSet<_> = (0..5000).map(|_| task.training_problem(&mut rng).prompt).collect();
        let held_out: HashSet<_> = (0..500).map(|_| task.held_out_problem(&mut rng).prompt).collect();
        assert!(training.is_disjoint(&held_out) && held_out.len() > 50);
    }
}
