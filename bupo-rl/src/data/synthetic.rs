//! The interface of generated tasks.

use rand_chacha::ChaCha8Rng;

/// A problem with an answer that can be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticProblem {
    /// The prompt.
    pub prompt: String,
    /// The reference answer, normalised as the task compares it.
    pub answer: String,
}

/// A generator of problems with a reward rule.
pub trait Task {
    /// Draws a problem for training.
    fn training_problem(&self, rng: &mut ChaCha8Rng) -> SyntheticProblem;
    /// Draws a problem that training never draws.
    fn held_out_problem(&self, rng: &mut ChaCha8Rng) -> SyntheticProblem;
    /// A worked solution, for supervised training. Each of its steps is wrong with probability `slip_rate`, and later steps
    /// continue from the wrong result.
    fn solution(&self, problem: &SyntheticProblem, slip_rate: f64, rng: &mut ChaCha8Rng) -> String;
    /// The reward, 0 or 1, of a response given the reference answer.
    fn reward(&self, answer: &str, response: &str) -> f64;
}
