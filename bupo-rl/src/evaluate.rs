//! Sampling, grading, Avg@K and Pass@K.

use bupo_core::{Norm, PolicySite};
use bupo_grade::Graded;
use bupo_models::{Decoder, GenerateOptions, LoadedModel, TextTokenizer, generate};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::RlError;
use crate::advantage::mean_and_std;
use crate::questions::{Answered, Question};

/// The normal distribution's 97.5% quantile.
const Z: f64 = 1.959_963_985;

/// What a model did on a set of problems. Means come with the half width of their 95% interval: the normal one, over
/// problems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// How many problems.
    pub problems: usize,
    /// How many responses to each, n.
    pub samples: usize,
    /// Mean reward over all responses: Avg@K for every K up to n.
    pub avg_at_k: f64,
    /// Of the above.
    pub avg_half_width: f64,
    /// Pass@n: the mean over problems of whether one of n responses is right.
    pub pass_at_k: f64,
    /// Pass@K for K = 1, 2, ..., n: the mean over problems of the unbiased chance that one of K responses is right.
    pub pass_at: Vec<f64>,
    /// Of each of the above.
    pub pass_half_widths: Vec<f64>,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Share of responses cut by the length limit.
    pub truncated: f64,
}

/// What came of one response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResponseOutcome {
    /// What it is worth.
    pub score: f64,
    /// Its length.
    pub tokens: usize,
    /// Whether it ended by itself within the length limit.
    pub finished: bool,
}

impl Evaluation {
    /// Of problems with the outcomes of as many responses each. A response worth more than 0.5 is right.
    pub fn of(problems: &[Vec<ResponseOutcome>]) -> Self {
        let samples = problems.iter().map(Vec::len).min().unwrap_or(0);
        let all = || problems.iter().flatten();
        let mean = |value: fn(&ResponseOutcome) -> f64| mean_and_std(&all().map(value).collect::<Vec<_>>()).0;
        let scores: Vec<f64> = problems
            .iter()
            .map(|problem| mean_and_std(&problem.iter().map(|outcome| outcome.score).collect::<Vec<_>>()).0)
            .collect();
        let (pass_at, pass_half_widths): (Vec<f64>, Vec<f64>) = (1..=samples)
            .map(|k| {
                let chances = problems.iter().map(|problem| {
                    let right = problem.iter().filter(|outcome| outcome.score > 0.5).count();
                    pass_at_k(problem.len(), right, k)
                });
                mean_and_half_width(&chances.collect::<Vec<_>>())
            })
            .unzip();
        let (avg_at_k, avg_half_width) = mean_and_half_width(&scores);
        Self {
            problems: problems.len(),
            samples,
            avg_at_k,
            avg_half_width,
            pass_at_k: pass_at.last().copied().unwrap_or(0.0),
            pass_at,
            pass_half_widths,
            response_length: mean(|outcome| outcome.tokens as f64),
            truncated: mean(|outcome| f64::from(u8::from(!outcome.finished))),
        }
    }
}

/// `1 - C(n - c, k) / C(n, k)`: the unbiased estimate of the chance that k draws hold a right one, c of n being right.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    if k > n - c {
        return 1.0;
    }
    1.0 - ((n - c - k + 1)..=(n - c))
        .zip((n - k + 1)..=n)
        .map(|(top, bottom)| top as f64 / bottom as f64)
        .product::<f64>()
}

fn mean_and_half_width(values: &[f64]) -> (f64, f64) {
    let (mean, std) = mean_and_std(values);
    (mean, Z * std / (values.len().max(1) as f64).sqrt())
}

/// How responses are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The policy sampled from.
    pub site: PolicySite,
    /// The norm between its state and the unembedding.
    pub norm: Norm,
    /// Responses per question.
    pub samples: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Responses generated at once.
    pub batch: usize,
    /// Seeds the random numbers.
    pub seed: u64,
}

/// A question with its responses.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The question.
    pub question: Question,
    /// The responses to it.
    pub responses: Vec<ScoredResponse>,
}

/// A response with what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredResponse {
    /// The generated ids, an end-of-sequence id included.
    pub tokens: Vec<u32>,
    /// Their log-probs under the policy that was sampled.
    pub log_probs: Vec<f32>,
    /// Their text, special tokens left out.
    pub text: String,
    /// The grade.
    pub graded: Graded,
    /// Whether an end-of-sequence id ended it.
    pub finished: bool,
}

impl ScoredResponse {
    /// What counts in an evaluation.
    pub fn outcome(&self) -> ResponseOutcome {
        ResponseOutcome { score: self.graded.score, tokens: self.tokens.len(), finished: self.finished }
    }
}

/// A prompt with a response as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// What the model was given.
    pub prompt: String,
    /// What it wrote.
    pub response: String,
    /// The right answer.
    pub answer: String,
    /// Where the question comes from.
    pub data_source: String,
    /// What the response is worth.
    pub score: f64,
    /// What was taken from the response as its answer.
    pub extracted: Option<String>,
    /// The response's length in tokens.
    pub tokens: usize,
    /// Whether it ended by itself within the length limit.
    pub finished: bool,
}

impl Group {
    /// One of its responses as text.
    pub fn completion(&self, index: usize) -> Option<Completion> {
        self.responses.get(index).map(|response| Completion {
            prompt: self.question.prompt.clone(),
            response: response.text.clone(),
            answer: self.question.answer.clone(),
            data_source: self.question.data_source.clone(),
            score: response.graded.score,
            extracted: response.graded.extracted.clone(),
            tokens: response.tokens.len(),
            finished: response.finished,
        })
    }
}

/// What samples: a decoder with its tokenizer and the ids that end a response.
#[derive(Debug, Clone, Copy)]
pub struct Sampler<'a, B: Backend> {
    /// The weights.
    pub decoder: &'a Decoder<B>,
    /// Turns responses into text.
    pub tokenizer: &'a TextTokenizer,
    /// Ids that end a response.
    pub eos_token_ids: &'a [u32],
}

impl<'a, B: Backend> Sampler<'a, B> {
    /// Of a loaded model.
    pub fn new(model: &'a LoadedModel<B>, tokenizer: &'a TextTokenizer) -> Self {
        Self { decoder: &model.decoder, tokenizer, eos_token_ids: &model.eos_token_ids }
    }

    /// Samples responses to each question and grades them. `first` is the number of the first question, for questions
    /// that are a part of more: a question's responses depend on its number, not on what is sampled beside it.
    ///
    /// # Errors
    /// If the site is outside the model, the policy's logits are not finite, or a response cannot be decoded.
    pub fn sample(
        &self,
        questions: &[Question],
        first: usize,
        sampling: &Sampling,
        grade: impl FnOnce(&[Answered<'_>]) -> Vec<Graded>,
    ) -> Result<Vec<Group>, RlError> {
        let rows: Vec<Vec<u32>> = questions
            .iter()
            .flat_map(|question| std::iter::repeat_n(question.tokens.clone(), sampling.samples))
            .collect();
        let options = GenerateOptions {
            site: sampling.site,
            norm: sampling.norm,
            temperature: sampling.temperature,
            max_new_tokens: sampling.max_new_tokens,
            eos_token_ids: self.eos_token_ids.to_vec(),
            seed: sampling.seed,
            first_row: first * sampling.samples,
            batch: sampling.batch,
        };
        let responses = generate(self.decoder, &rows, &options)?;
        let texts: Vec<String> =
            responses.iter().map(|response| self.tokenizer.decode(&response.tokens)).collect::<Result<_, _>>()?;
        let answered: Vec<Answered<'_>> = responses
            .iter()
            .zip(&texts)
            .enumerate()
            .map(|(row, (response, text))| Answered {
                question: &questions[row / sampling.samples],
                response: text,
                finished: response.finished,
            })
            .collect();
        let mut scored = responses
            .iter()
            .zip(&texts)
            .zip(grade(&answered))
            .map(|((response, text), graded)| ScoredResponse {
                tokens: response.tokens.clone(),
                log_probs: response.log_probs.clone(),
                text: text.clone(),
                graded,
                finished: response.finished,
            })
            .collect::<Vec<_>>()
            .into_iter();
        Ok(questions
            .iter()
            .map(|question| Group {
                question: question.clone(),
                responses: scored.by_ref().take(sampling.samples).collect(),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(scores: &[f64]) -> Vec<ResponseOutcome> {
        scores.iter().map(|score| ResponseOutcome { score: *score, tokens: 3, finished: *score > 0.0 }).collect()
    }

    /// The share of the subsets of k draws that hold a right one, counted one by one.
    fn counted(n: usize, c: usize, k: usize) -> f64 {
        let subsets = (0_u32..1 << n).filter(|subset| subset.count_ones() as usize == k);
        let right = subsets.clone().filter(|subset| subset & ((1 << c) - 1) != 0).count();
        right as f64 / subsets.count() as f64
    }

    #[test]
    fn pass_at_k_counts_the_draws() {
        for n in 1..=9 {
            for c in 0..=n {
                for k in 1..=n {
                    assert!((pass_at_k(n, c, k) - counted(n, c, k)).abs() < 1e-12, "{n} {c} {k}");
                }
            }
        }
        // 1 - C(127, 64) / C(128, 64) = 1 - 64 / 128: no factorial overflows.
        assert!((pass_at_k(128, 1, 64) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_evaluation_has_means_and_intervals_over_problems() {
        let evaluation = Evaluation::of(&[outcomes(&[1.0, 0.0]), outcomes(&[0.0, 0.0]), outcomes(&[1.0, 1.0])]);
        assert_eq!((evaluation.problems, evaluation.samples), (3, 2));
        assert!((evaluation.avg_at_k - 0.5).abs() < 1e-12);
        // Problem means 0.5, 0, 1: unbiased standard deviation 0.5.
        assert!((evaluation.avg_half_width - 1.959_963_985 * 0.5 / 3.0_f64.sqrt()).abs() < 1e-9);
        assert!((evaluation.pass_at[0] - 0.5).abs() < 1e-12 && (evaluation.pass_at[1] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(evaluation.pass_at_k, evaluation.pass_at[1]);
        assert!((evaluation.truncated - 0.5).abs() < 1e-12 && evaluation.response_length == 3.0);
    }

    #[test]
    fn nothing_is_worth_nothing() {
        let evaluation = Evaluation::of(&[]);
        assert_eq!((evaluation.problems, evaluation.avg_at_k, evaluation.pass_at_k), (0, 0.0, 0.0));
    }
}
