//! Responses sampled from a policy and graded, in groups by prompt.

use bupo_core::{Norm, PolicySite};
use bupo_grade::Graded;
use bupo_models::{Decoder, GenerateOptions, LoadedModel, ScoredSequence, Sequence, TextTokenizer, generate};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::metrics::ResponseOutcome;
use crate::question::{GradingInput, Question};

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
    /// Prompt and response tokens of each response, in order.
    pub fn sequences(&self) -> impl Iterator<Item = Sequence> + '_ {
        let prompt = &self.question.tokens;
        self.responses.iter().map(|response| Sequence { prompt: prompt.clone(), response: response.tokens.clone() })
    }

    /// The same with the score of each.
    pub fn scored_sequences(&self) -> impl Iterator<Item = ScoredSequence> + '_ {
        let scores = self.responses.iter().map(|response| Some(response.graded.score));
        self.sequences().zip(scores).map(|(sequence, score)| ScoredSequence { sequence, score })
    }

    /// What counts of each response in an evaluation.
    pub fn outcomes(&self) -> Vec<ResponseOutcome> {
        self.responses.iter().map(ScoredResponse::outcome).collect()
    }

    /// The score of each response.
    pub fn scores(&self) -> Vec<f64> {
        self.responses.iter().map(|response| response.graded.score).collect()
    }

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
        grade: impl FnOnce(&[GradingInput<'_>]) -> Vec<Graded>,
    ) -> Result<Vec<Group>, EvalError> {
        let rows: Vec<Vec<u32>> = questions
            .iter()
            .flat_map(|question| std::iter::repeat_n(question.tokens.clone(), sampling.samples))
            .collect();
        let options = GenerateOptions {
            site: sampling.site,
            norm: sampling.norm,
            temperature: sampling.temperature,
            sampling: Default::default(),
            max_new_tokens: sampling.max_new_tokens,
            eos_token_ids: self.eos_token_ids.to_vec(),
            seed: sampling.seed,
            first_row: first * sampling.samples,
            batch: sampling.batch,
        };
        let responses = generate(self.decoder, &rows, &options)?;
        let texts: Vec<String> =
            responses.iter().map(|response| self.tokenizer.decode(&response.tokens)).collect::<Result<_, _>>()?;
        let answered: Vec<GradingInput<'_>> = responses
            .iter()
            .zip(&texts)
            .enumerate()
            .map(|(row, (response, text))| GradingInput {
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
