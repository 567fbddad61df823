//! Where prompts come from, and what answers are worth.

use rand_chacha::ChaCha8Rng;

/// A problem with an answer that can be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticProblem {
    /// What the model is given.
    pub prompt: String,
    /// The answer, normalised as the task compares it.
    pub answer: String,
}

/// A source of problems with a rule that checks answers.
pub trait Task {
    /// Draws a problem for training.
    fn training_problem(&self, rng: &mut ChaCha8Rng) -> SyntheticProblem;
    /// Draws a problem no training draw ever gives.
    fn held_out_problem(&self, rng: &mut ChaCha8Rng) -> SyntheticProblem;
    /// A worked answer to a problem, for supervised training. Each of its steps goes wrong with chance `slip_rate`, and
    /// those after it go on from there; at 0 it is right.
    fn solution(&self, problem: &SyntheticProblem, slip_rate: f64, rng: &mut ChaCha8Rng) -> String;
    /// The reward of a response's text where this is the right answer, 0 or 1.
    fn reward(&self, answer: &str, response: &str) -> f64;
}
