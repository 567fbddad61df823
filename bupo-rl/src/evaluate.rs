//! Avg@K and Pass@K on held-out problems.

use bupo_core::{Norm, PolicySite};
use bupo_models::{Decoder, GenerateOptions, TextTokenizer, generate};
use burn::tensor::backend::Backend;
use serde::Serialize;

use crate::RlError;
use crate::task::{Problem, Task};

/// What a model did on a set of problems.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// How many problems.
    pub problems: usize,
    /// How many responses to each, K.
    pub samples: usize,
    /// Mean reward over all responses.
    pub avg_at_k: f64,
    /// Mean over problems of the chance that at least one of K responses is right.
    pub pass_at_k: f64,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Share of responses cut by the length limit.
    pub truncated: f64,
    /// The first response to each problem.
    #[serde(skip)]
    pub completions: Vec<Completion>,
}

/// A prompt with a response as text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion {
    /// What the model was given.
    pub prompt: String,
    /// What it wrote.
    pub response: String,
    /// The right answer.
    pub answer: String,
    /// What the response is worth.
    pub reward: f64,
}

/// How responses are sampled for an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Responses per problem.
    pub samples: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Seeds the random numbers.
    pub seed: u64,
}

/// Samples K responses to each problem from the full policy and scores them.
///
/// # Errors
/// If a prompt cannot be encoded or the policy's logits are not finite.
pub fn evaluate<B: Backend>(
    decoder: &Decoder<B>,
    tokenizer: &TextTokenizer,
    eos_token_ids: &[u32],
    task: &dyn Task,
    problems: &[Problem],
    sampling: &Sampling,
) -> Result<Evaluation, RlError> {
    let groups = sample_groups(decoder, tokenizer, eos_token_ids, task, problems, sampling)?;
    let all: Vec<&ScoredResponse> = groups.iter().flat_map(|group| &group.responses).collect();
    let mean = |value: &dyn Fn(&ScoredResponse) -> f64| {
        all.iter().map(|response| value(response)).sum::<f64>() / all.len().max(1) as f64
    };
    let pass = groups.iter().map(|group| {
        let right = group.responses.iter().filter(|response| response.reward > 0.5).count();
        pass_at_k(sampling.samples, right, sampling.samples)
    });
    Ok(Evaluation {
        problems: problems.len(),
        samples: sampling.samples,
        avg_at_k: mean(&|response| response.reward),
        pass_at_k: pass.sum::<f64>() / problems.len().max(1) as f64,
        response_length: mean(&|response| response.tokens.len() as f64),
        truncated: mean(&|response| f64::from(u8::from(!response.finished))),
        completions: groups.iter().zip(problems).filter_map(|(group, problem)| group.completion(problem, 0)).collect(),
    })
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

/// The responses to one prompt.
pub(crate) struct Group {
    pub(crate) prompt: Vec<u32>,
    pub(crate) responses: Vec<ScoredResponse>,
}

pub(crate) struct ScoredResponse {
    pub(crate) tokens: Vec<u32>,
    pub(crate) text: String,
    pub(crate) reward: f64,
    pub(crate) finished: bool,
}

impl Group {
    pub(crate) fn completion(&self, problem: &Problem, index: usize) -> Option<Completion> {
        self.responses.get(index).map(|response| Completion {
            prompt: problem.prompt.clone(),
            response: response.text.clone(),
            answer: problem.answer.clone(),
            reward: response.reward,
        })
    }
}

/// Samples `sampling.samples` responses to each problem from the full policy and scores them. A response cut by the
/// length limit is worth nothing.
pub(crate) fn sample_groups<B: Backend>(
    decoder: &Decoder<B>,
    tokenizer: &TextTokenizer,
    eos_token_ids: &[u32],
    task: &dyn Task,
    problems: &[Problem],
    sampling: &Sampling,
) -> Result<Vec<Group>, RlError> {
    let prompts: Vec<Vec<u32>> =
        problems.iter().map(|problem| tokenizer.encode(&problem.prompt)).collect::<Result<_, _>>()?;
    let rows: Vec<Vec<u32>> =
        prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), sampling.samples)).collect();
    let options = GenerateOptions {
        site: PolicySite::Full,
        norm: Norm::None,
        temperature: sampling.temperature,
        max_new_tokens: sampling.max_new_tokens,
        eos_token_ids: eos_token_ids.to_vec(),
        seed: sampling.seed,
    };
    let mut responses = generate(decoder, &rows, &options)?.into_iter();
    let mut groups = Vec::with_capacity(problems.len());
    for (prompt, problem) in prompts.into_iter().zip(problems) {
        let mut scored = Vec::with_capacity(sampling.samples);
        for response in responses.by_ref().take(sampling.samples) {
            let text = tokenizer.decode(&response.tokens)?;
            let reward = if response.finished { task.reward(problem, &text) } else { 0.0 };
            scored.push(ScoredResponse { tokens: response.tokens, text, reward, finished: response.finished });
        }
        groups.push(Group { prompt, responses: scored });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::pass_at_k;

    #[test]
    fn pass_at_k_counts_the_draws() {
        // Of 4 with 1 right, the pairs without it are C(3, 2) = 3 of C(4, 2) = 6.
        for (n, c, k, expected) in [(4, 1, 2, 0.5), (4, 0, 2, 0.0), (4, 4, 1, 1.0), (5, 2, 1, 0.4), (8, 1, 8, 1.0)] {
            assert!((pass_at_k(n, c, k) - expected).abs() < 1e-12, "{n} {c} {k}");
        }
    }
}
