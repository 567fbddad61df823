//! Responses sampled from a policy and graded, in groups by prompt.

use bupo_core::{Norm, PolicySite, SamplingParams};
use bupo_engine::{Engine, Report, Rollouts, SampleRequest};
use bupo_grade::{Graded, GradedItem};
use bupo_models::{GenerateOptions, Response, ScoredSequence, Sequence, StopStrings, TextTokenizer};
use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::metrics::ResponseOutcome;
use crate::question::{GradingInput, Question};

/// How responses are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The site of the policy sampled from.
    pub site: PolicySite,
    /// The norm before the unembedding.
    pub norm: Norm,
    /// Responses per question.
    pub samples: usize,
    /// The temperature, which divides the logits.
    pub temperature: f64,
    /// Restrictions of the sampled tokens: top-k, top-p, min-p, repetition penalty.
    pub params: SamplingParams,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Responses generated at once.
    pub batch: usize,
    /// The seed.
    pub seed: u64,
}

/// A question and its responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The question.
    pub question: Question,
    /// Its responses.
    pub responses: Vec<ScoredResponse>,
    /// The step after which the weights that sampled them were handed over to an inference engine; `None` if they were not.
    pub weights_step: Option<usize>,
}

/// A graded response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredResponse {
    /// The generated ids, including the end-of-sequence id.
    pub tokens: Vec<u32>,
    /// Their log-probs at sampling.
    pub log_probs: Vec<f32>,
    /// Their text without special tokens.
    pub text: String,
    /// The grade; its score is 0 if an external scorer failed.
    pub graded: Graded,
    /// Why an external scorer could not grade the response; such a score is not a measurement.
    pub failure: Option<String>,
    /// Whether an end-of-sequence id ended it.
    pub finished: bool,
}

impl ScoredResponse {
    /// The values that count in an evaluation.
    pub fn outcome(&self) -> ResponseOutcome {
        ResponseOutcome {
            score: self.graded.score,
            tokens: self.tokens.len(),
            finished: self.finished,
            answer: self.graded.extracted.clone(),
        }
    }
}

/// A prompt with a response as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The prompt.
    pub prompt: String,
    /// The response's text.
    pub response: String,
    /// The reference answer.
    pub answer: String,
    /// The question's data source.
    pub data_source: String,
    /// The score.
    pub score: f64,
    /// The answer extracted from the response.
    pub extracted: Option<String>,
    /// The response's length in tokens.
    pub tokens: usize,
    /// Whether an end-of-sequence token ended it within the length limit.
    pub finished: bool,
}

impl Group {
    /// Prompt and response tokens of each response, in order.
    pub fn sequences(&self) -> impl Iterator<Item = Sequence> + '_ {
        let prompt = &self.question.tokens;
        self.responses.iter().map(|response| Sequence { prompt: prompt.clone(), response: response.tokens.clone() })
    }

    /// The same with each response's score, `None` if a scorer failed.
    pub fn scored_sequences(&self) -> impl Iterator<Item = ScoredSequence> + '_ {
        let scores = self.responses.iter().map(|response| response.failure.is_none().then_some(response.graded.score));
        self.sequences().zip(scores).map(|(sequence, score)| ScoredSequence { sequence, score })
    }

    /// The values of each response that count in an evaluation.
    pub fn outcomes(&self) -> Vec<ResponseOutcome> {
        self.responses.iter().map(ScoredResponse::outcome).collect()
    }

    /// The score of each response, `None` if a scorer failed.
    pub fn scores(&self) -> Vec<Option<f64>> {
        self.responses.iter().map(|response| response.failure.is_none().then_some(response.graded.score)).collect()
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

/// An engine with the tokenizer and the end-of-sequence ids of its model.
#[derive(Clone, Copy)]
pub struct Sampler<'a> {
    /// What generates.
    pub engine: &'a dyn Engine,
    /// The tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// Ids that end a response.
    pub eos_token_ids: &'a [u32],
    /// Texts that end a response, and that its text does not include.
    pub stop: &'a [String],
    /// Gets the number of responses that are sampled since its last call.
    pub report: &'a Report<'a>,
}

impl<'a> Sampler<'a> {
    /// A sampler without stop strings that reports nothing.
    pub fn new(engine: &'a dyn Engine, tokenizer: &'a TextTokenizer, eos_token_ids: &'a [u32]) -> Self {
        Self { engine, tokenizer, eos_token_ids, stop: &[], report: &|_| () }
    }

    /// The same sampler with stop strings.
    pub fn with_stop(self, stop: &'a [String]) -> Self {
        Self { stop, ..self }
    }

    /// The same sampler, which reports the responses that are sampled.
    pub fn with_report(self, report: &'a Report<'a>) -> Self {
        Self { report, ..self }
    }

    /// The request for responses to questions, of which the first has the index `first` in the whole.
    pub fn request(&self, questions: &[Question], first: usize, sampling: &Sampling) -> SampleRequest {
        SampleRequest {
            prompts: questions.iter().map(|question| question.tokens.clone()).collect(),
            samples: sampling.samples,
            options: GenerateOptions {
                site: sampling.site,
                norm: sampling.norm,
                temperature: sampling.temperature,
                sampling: sampling.params,
                max_new_tokens: sampling.max_new_tokens,
                eos_token_ids: self.eos_token_ids.to_vec(),
                seed: sampling.seed,
                first_row: first * sampling.samples,
                batch: sampling.batch,
            },
            stop: self.stop.to_vec(),
        }
    }

    /// Samples responses to each question and grades them. A question's responses depend on its index in the whole, which for
    /// the first of `questions` is `first`, not on how questions are batched.
    ///
    /// # Errors
    /// If the site is outside the model, the policy's logits are not finite, a response cannot be decoded, or servers fail.
    pub fn sample(
        &self,
        questions: &[Question],
        first: usize,
        sampling: &Sampling,
        grade: impl FnOnce(&[GradingInput<'_>]) -> Vec<GradedItem>,
    ) -> Result<Vec<Group>, EvalError> {
        let Rollouts { responses, version } =
            self.engine.sample(&self.request(questions, first, sampling), self.report)?;
        let stop = StopStrings::new(self.tokenizer, self.stop)?;
        let text = |response: &Response| -> Result<String, EvalError> {
            Ok(stop.truncate(&self.tokenizer.decode(&response.tokens)?).to_string())
        };
        let texts: Vec<String> = responses.iter().map(text).collect::<Result<_, _>>()?;
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
            .map(|((response, text), GradedItem { graded, failure })| ScoredResponse {
                tokens: response.tokens.clone(),
                log_probs: response.log_probs.clone(),
                text: text.clone(),
                graded,
                failure,
                finished: response.finished,
            })
            .collect::<Vec<_>>()
            .into_iter();
        let weights_step = version.map(|version| version.step);
        let group = |question: &Question| Group {
            question: question.clone(),
            responses: scored.by_ref().take(sampling.samples).collect(),
            weights_step,
        };
        Ok(questions.iter().map(group).collect())
    }
}
