//! Questions of the embedded task, generated on demand.

use bupo_eval::{Benchmark, GradingInput, Question};
use bupo_grade::{Graded, GradedItem};
use bupo_models::TextTokenizer;

use super::Questions;
use super::arithmetic::Arithmetic;
use super::curriculum::Curriculum;
use super::synthetic::{SyntheticProblem, Task};
use crate::RlError;
use crate::config::TruncatedReward;
use crate::random::{Purpose, stream};

/// The data source of the task's questions and the name of its benchmark.
const SOURCE: &str = "arithmetic";

/// Problems of the embedded task.
#[derive(Debug, Clone)]
pub struct ArithmeticQuestions {
    /// The problems' sizes.
    pub task: Arithmetic,
    /// Encodes the prompts.
    pub tokenizer: TextTokenizer,
    /// Seeds the draws.
    pub seed: u64,
    /// Questions per draw.
    pub per_draw: usize,
    /// Held-out questions.
    pub held_out: usize,
    /// How truncated responses are treated.
    pub truncated: TruncatedReward,
}

impl Questions for ArithmeticQuestions {
    fn training(&self, draw: usize, _: &Curriculum) -> Result<Vec<Question>, RlError> {
        let mut rng = stream(self.seed, Purpose::Problems, draw);
        (0..self.per_draw).map(|_| self.question(self.task.training_problem(&mut rng))).collect()
    }

    fn held_out(&self) -> Result<Vec<Benchmark>, RlError> {
        let mut rng = stream(self.seed, Purpose::HeldOut, 0);
        let questions = (0..self.held_out).map(|_| self.question(self.task.held_out_problem(&mut rng)));
        Ok(vec![Benchmark { name: SOURCE.into(), questions: questions.collect::<Result<_, _>>()? }])
    }

    fn grade(&self, answered: &[GradingInput<'_>]) -> Vec<GradedItem> {
        let score = |answer: &GradingInput<'_>| {
            let counts = answer.finished || self.truncated != TruncatedReward::Zero;
            if counts { self.task.reward(&answer.question.answer, answer.response) } else { 0.0 }
        };
        answered
            .iter()
            .map(|answer| GradedItem {
                graded: Graded {
                    score: score(answer),
                    extracted: Some(Arithmetic::answer(answer.response).to_string()),
                },
                failure: None,
            })
            .collect()
    }

    fn describe(&self) -> String {
        let Arithmetic { max_terms, max_number } = self.task;
        format!(
            "sums and differences of up to {max_terms} numbers up to {max_number}, {} problems held out",
            self.held_out
        )
    }
}

impl ArithmeticQuestions {
    fn question(&self, problem: SyntheticProblem) -> Result<Question, RlError> {
        Ok(Question {
            tokens: self.tokenizer.encode(&problem.prompt)?,
            prompt: problem.prompt,
            answer: problem.answer,
            data_source: SOURCE.into(),
        })
    }
}
