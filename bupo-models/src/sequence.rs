//! Prompts with their responses, padded into blocks.

use bupo_core::token_tensor;
use burn::tensor::{Int, Tensor, backend::Backend};

use serde::{Deserialize, Serialize};

use crate::generate::padded_tokens;

/// A prompt and a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The prompt's ids, at least one.
    pub prompt: Vec<u32>,
    /// The response's ids, up to and including the first end-of-sequence id.
    pub response: Vec<u32>,
}

impl Sequence {
    /// Tokens of prompt and response together.
    #[allow(clippy::len_without_is_empty)] // A prompt has at least one token.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.response.len()
    }

    /// The response without its prompt: its first token, which nothing precedes, is the prompt.
    pub fn without_prompt(self) -> Self {
        let mut response = self.response;
        let rest = response.split_off(response.len().min(1));
        Self { prompt: response, response: rest }
    }
}

/// A prompt and a response with its score, if known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "(Sequence, Option<f64>)", into = "(Sequence, Option<f64>)")]
pub struct ScoredSequence {
    /// The tokens.
    pub sequence: Sequence,
    /// The grade.
    pub score: Option<f64>,
}

impl From<(Sequence, Option<f64>)> for ScoredSequence {
    fn from((sequence, score): (Sequence, Option<f64>)) -> Self {
        Self { sequence, score }
    }
}

impl From<ScoredSequence> for (Sequence, Option<f64>) {
    fn from(scored: ScoredSequence) -> Self {
        (scored.sequence, scored.score)
    }
}

/// Splits items, in order, into batches of at most `max_tokens` tokens including padding; an item that is longer is a
/// batch of its own. Sorted by length, items need little padding.
pub fn token_batches<T>(all: &[T], length: impl Fn(&T) -> usize, max_tokens: usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let (mut start, mut longest) = (0, 0);
    for (index, item) in all.iter().enumerate() {
        longest = longest.max(length(item));
        if index > start && longest * (index + 1 - start) > max_tokens {
            batches.push(&all[start..index]);
            (start, longest) = (index, length(item));
        }
    }
    if start < all.len() {
        batches.push(&all[start..]);
    }
    batches
}

/// Sequences padded on the right, with the positions of the states that predict response tokens.
#[derive(Debug, Clone)]
pub struct PaddedBatch {
    rows: Vec<Vec<u32>>,
    /// Tokens of the longest row.
    longest: usize,
    /// Indices of those states in the flattened `[rows * longest]`.
    places: Vec<u32>,
    /// The response tokens, one per predicting state.
    pub targets: Vec<u32>,
    /// Response lengths.
    pub lengths: Vec<usize>,
}

impl PaddedBatch {
    /// The state at position t predicts token t + 1, so a response of n tokens has its states at positions
    /// `prompt_len - 1 ..= prompt_len + n - 2`, and its last token is not an input.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let mut batch =
            Self { rows: Vec::new(), longest: 0, places: Vec::new(), targets: Vec::new(), lengths: Vec::new() };
        let mut starts = Vec::new();
        for sequence in sequences {
            let run = sequence.response.len().saturating_sub(1);
            batch.rows.push([&sequence.prompt[..], &sequence.response[..run]].concat());
            batch.targets.extend(&sequence.response);
            batch.lengths.push(sequence.response.len());
            starts.push(sequence.prompt.len() - 1);
        }
        batch.longest = batch.rows.iter().map(Vec::len).max().unwrap_or(0);
        for (row, (start, length)) in starts.iter().zip(&batch.lengths).enumerate() {
            batch.places.extend((0..*length).map(|token| (row * batch.longest + start + token) as u32));
        }
        batch
    }

    /// The input tokens, `[rows, longest]`.
    pub fn tokens<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2, Int> {
        padded_tokens(&self.rows, device)
    }

    /// Input tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Selects the states that predict response tokens, `[tokens, hidden]`, from all states `[rows * longest, hidden]`.
    pub fn gather_states<B: Backend>(&self, states: Tensor<B, 2>) -> Tensor<B, 2> {
        let device = states.device();
        states.select(0, token_tensor(&self.places, &device))
    }

    /// The gradient with respect to all states `[rows * longest, hidden]`, from that of the states that predict
    /// response tokens.
    pub fn scatter_grad<B: Backend>(&self, d_states: Tensor<B, 2>) -> Tensor<B, 2> {
        let ([count, hidden], device) = (d_states.dims(), d_states.device());
        // Every state selects its row or an extra row of zeros: on devices, selecting rows runs in parallel and adding
        // to rows does not.
        let mut index = vec![count as u32; self.rows.len() * self.longest];
        self.places.iter().enumerate().for_each(|(row, place)| index[*place as usize] = row as u32);
        let zeros = Tensor::<B, 2>::zeros([1, hidden], (&device, d_states.dtype()));
        Tensor::cat(vec![d_states, zeros], 0).select(0, token_tensor(&index, &device))
    }

    /// Splits per-token values into one slice per response.
    pub fn split<'a, T>(&'a self, mut values: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        self.lengths.iter().map(move |length| {
            let (response, rest) = values.split_at(*length);
            values = rest;
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_limited_by_tokens_with_padding() {
        let cut = |lengths: &[usize], max| -> Vec<Vec<usize>> {
            token_batches(lengths, |length| *length, max).into_iter().map(<[usize]>::to_vec).collect()
        };
        assert_eq!(cut(&[2, 3, 3, 10, 1], 9), [vec![2, 3, 3], vec![10], vec![1]]);
        assert_eq!(cut(&[4, 4, 5], 10), [vec![4, 4], vec![5]]);
        assert_eq!(cut(&[1, 1], 1), [vec![1], vec![1]]);
        assert!(cut(&[], 5).is_empty());
    }
}
