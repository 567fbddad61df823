//! Prompts with their responses, and batches of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bupo_core::kernels::add_rows;
use bupo_core::token_tensor;
use burn::tensor::{Int, Tensor, backend::Backend};

use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::generate::{check_tokens, padded_tokens};

/// Limit of the places of a packed batch's rows for each token that it may have. Attention takes these places in one layer at a time.
pub const MOST_PLACES: usize = 4;

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

    /// Checks that there is a prompt and a response, of ids below `vocab_size`.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, vocab_size: usize) -> Result<(), ModelError> {
        check_tokens(&[self.prompt.clone(), self.response.clone()], vocab_size)
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

/// The same of sequences whose batches are packed: a prompt that several of a batch share counts once, and there is no padding. The
/// rows of a batch have at most [`MOST_PLACES`] places for each token that it may have.
pub(crate) fn packed_batches<T>(all: &[T], sequence: impl Fn(&T) -> &Sequence, max_tokens: usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let mut prompts: BTreeSet<&[u32]> = BTreeSet::new();
    let (mut start, mut tokens, mut longest) = (0, 0, 0);
    for (index, item) in all.iter().enumerate() {
        let Sequence { prompt, response } = sequence(item);
        longest = longest.max(prompt.len() + response.len());
        let prompt_tokens = |is_new: bool| if is_new { prompt.len() } else { 0 };
        let more = response.len() + prompt_tokens(!prompts.contains(&prompt[..]));
        let places = longest * (index + 1 - start);
        if index > start && (tokens + more > max_tokens || places > MOST_PLACES * max_tokens) {
            batches.push(&all[start..index]);
            prompts.clear();
            (start, tokens, longest) = (index, 0, prompt.len() + response.len());
        }
        tokens += response.len() + prompt_tokens(prompts.insert(prompt));
    }
    if start < all.len() {
        batches.push(&all[start..]);
    }
    batches
}

/// Sequences as one batch, with the positions of the states that predict response tokens.
///
/// It is padded, each row on the right to the longest, or packed: without padding, and with a prompt that several sequences share only
/// once. The layers compute every token of a packed batch once; only attention takes rows.
#[derive(Debug, Clone)]
pub struct SequenceBatch {
    /// The input tokens, `[rows, longest]`, or `[1, tokens]` if the batch is packed.
    tokens: Vec<Vec<u32>>,
    /// Tokens of the longest row.
    longest: usize,
    /// Of a packed batch the token of each place of the padded rows, `[rows * longest]`; padding has the row's first one.
    rows: Option<Vec<u32>>,
    /// Indices of the predicting states among those of all input tokens.
    places: Vec<u32>,
    /// The response tokens, one per predicting state.
    pub targets: Vec<u32>,
    /// Response lengths.
    pub lengths: Vec<usize>,
}

/// Some neighbouring responses of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseBlock {
    /// Their places in the batch.
    pub responses: Range<usize>,
    /// The places of their tokens among all response tokens.
    pub tokens: Range<usize>,
}

impl SequenceBatch {
    /// A padded batch.
    ///
    /// The state at position t predicts token t + 1, so a response of n tokens has its states at positions
    /// `prompt_len - 1 ..= prompt_len + n - 2`, and its last token is not an input.
    pub fn padded<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let mut batch = Self::empty();
        let mut starts = Vec::new();
        for sequence in sequences {
            batch.tokens.push([&sequence.prompt[..], inputs(&sequence.response)].concat());
            batch.targets.extend(&sequence.response);
            batch.lengths.push(sequence.response.len());
            starts.push(sequence.prompt.len() - 1);
        }
        batch.longest = batch.tokens.iter().map(Vec::len).max().unwrap_or(0);
        for (row, (start, length)) in starts.iter().zip(&batch.lengths).enumerate() {
            batch.places.extend((0..*length).map(|token| (row * batch.longest + start + token) as u32));
        }
        batch
    }

    /// A packed batch.
    pub fn packed<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let sequences: Vec<&Sequence> = sequences.into_iter().collect();
        let mut batch = Self::empty();
        batch.longest = sequences
            .iter()
            .map(|sequence| sequence.prompt.len() + inputs(&sequence.response).len())
            .max()
            .unwrap_or(0);
        let (mut tokens, mut rows) = (Vec::new(), Vec::with_capacity(sequences.len() * batch.longest));
        let mut prompts: BTreeMap<&[u32], u32> = BTreeMap::new();
        for sequence in sequences {
            let prompt = *prompts.entry(&sequence.prompt).or_insert_with(|| {
                tokens.extend(&sequence.prompt);
                (tokens.len() - sequence.prompt.len()) as u32
            });
            let response = tokens.len() as u32;
            tokens.extend(inputs(&sequence.response));
            let row: Vec<u32> =
                (prompt..prompt + sequence.prompt.len() as u32).chain(response..tokens.len() as u32).collect();
            batch.places.extend(&row[sequence.prompt.len() - 1..][..sequence.response.len()]);
            let padding = batch.longest - row.len();
            rows.extend(row.iter().chain(std::iter::repeat_n(&row[0], padding)));
            batch.targets.extend(&sequence.response);
            batch.lengths.push(sequence.response.len());
        }
        batch.tokens = vec![tokens];
        batch.rows = Some(rows);
        batch
    }

    fn empty() -> Self {
        Self {
            tokens: Vec::new(),
            longest: 0,
            rows: None,
            places: Vec::new(),
            targets: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// The input tokens, `[rows, longest]`, or `[1, tokens]` if the batch is packed.
    pub fn tokens<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2, Int> {
        padded_tokens(&self.tokens, device)
    }

    /// The number of tokens that the layers compute, padding included.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len() * self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Input tokens of the longest row.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Of a packed batch the token of each place of the padded rows, `[rows * longest]`.
    pub(crate) fn rows(&self) -> Option<&[u32]> {
        self.rows.as_deref()
    }

    /// Selects the states that predict response tokens, `[tokens, hidden]`, from those of all input tokens.
    pub fn gather_states<B: Backend>(&self, states: Tensor<B, 2>) -> Tensor<B, 2> {
        let device = states.device();
        states.select(0, token_tensor(&self.places, &device))
    }

    /// The gradient with respect to the states of all input tokens, from that of the states that predict response tokens.
    pub fn scatter_grad<B: Backend>(&self, d_states: Tensor<B, 2>) -> Tensor<B, 2> {
        let ([count, hidden], device) = (d_states.dims(), d_states.device());
        let total = self.num_tokens();
        if self.rows.is_some() {
            // The state of a prompt's last token predicts the first token of each of its responses.
            let sums = Tensor::<B, 2>::zeros([total, hidden], (&device, d_states.dtype()));
            return add_rows(sums, token_tensor(&self.places, &device), d_states);
        }
        // Every state selects its row or an extra row of zeros: on devices, selecting rows runs in parallel and adding
        // to rows does not.
        let mut index = vec![count as u32; total];
        self.places.iter().enumerate().for_each(|(row, place)| index[*place as usize] = row as u32);
        let zeros = Tensor::<B, 2>::zeros([1, hidden], (&device, d_states.dtype()));
        Tensor::cat(vec![d_states, zeros], 0).select(0, token_tensor(&index, &device))
    }

    /// Splits per-token values into one slice per response.
    pub fn split<'a, T>(&'a self, values: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        split_by(&self.lengths, values)
    }

    /// Neighbouring responses that have at most so many tokens together, in order; a longer response is alone.
    pub fn blocks(&self, most_tokens: usize) -> Vec<ResponseBlock> {
        let mut blocks: Vec<ResponseBlock> = Vec::new();
        let mut end = 0;
        for (index, length) in self.lengths.iter().enumerate() {
            let start = end;
            end += length;
            match blocks.last_mut() {
                Some(block) if end - block.tokens.start <= most_tokens => {
                    block.responses.end = index + 1;
                    block.tokens.end = end;
                }
                _ => blocks.push(ResponseBlock { responses: index..index + 1, tokens: start..end }),
            }
        }
        blocks
    }
}

/// Splits per-token values of responses of these lengths into one slice per response.
pub fn split_by<'a, T>(lengths: &'a [usize], mut values: &'a [T]) -> impl Iterator<Item = &'a [T]> {
    lengths.iter().map(move |length| {
        let (response, rest) = values.split_at(*length);
        values = rest;
        response
    })
}

/// The tokens of a response that are inputs: all but the last.
fn inputs(response: &[u32]) -> &[u32] {
    &response[..response.len().saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_batch_has_shared_prompts_once_and_no_padding() {
        let of = |prompt: &[u32], response: &[u32]| Sequence { prompt: prompt.to_vec(), response: response.to_vec() };
        let batch = SequenceBatch::packed(&[of(&[1, 2], &[3, 4, 5]), of(&[6], &[7]), of(&[1, 2], &[8, 9])]);
        assert_eq!(batch.tokens, [[1, 2, 3, 4, 6, 8]]);
        assert_eq!(batch.rows(), Some(&[0, 1, 2, 3, 4, 4, 4, 4, 0, 1, 5, 0][..]));
        assert_eq!(batch.places, [1, 2, 3, 4, 1, 5]);
        assert_eq!((batch.targets, batch.lengths), (vec![3, 4, 5, 7, 8, 9], vec![3, 1, 2]));
        assert_eq!((batch.longest, batch.tokens[0].len()), (4, 6));
    }

    #[test]
    fn blocks_have_whole_responses() {
        let row = |tokens: usize| Sequence { prompt: vec![1], response: vec![2; tokens] };
        let batch = SequenceBatch::padded(&[row(3), row(2), row(7), row(1), row(4)]);
        let of = |most: usize| -> Vec<_> {
            batch.blocks(most).into_iter().map(|block| (block.responses, block.tokens)).collect()
        };
        assert_eq!(of(5), [(0..2, 0..5), (2..3, 5..12), (3..5, 12..17)]);
        assert_eq!(of(1).len(), 5);
        assert_eq!(of(usize::MAX), [(0..5, 0..17)]);
    }

    #[test]
    fn packed_batches_are_limited_by_the_tokens_that_are_computed() {
        let row = |(prompt, tokens): (u32, usize)| Sequence { prompt: vec![prompt; 4], response: vec![0; tokens] };
        let cut = |rows: &[(u32, usize)], max: usize| -> Vec<usize> {
            let rows: Vec<Sequence> = rows.iter().copied().map(row).collect();
            packed_batches(&rows, |row| row, max).into_iter().map(<[Sequence]>::len).collect()
        };
        assert_eq!(cut(&[(1, 2), (1, 3), (1, 3), (2, 1), (1, 2)], 12), [3, 2]);
        assert_eq!(cut(&[(1, 2), (2, 2), (1, 2), (2, 2)], 16), [4]);
        assert_eq!(cut(&[(1, 20), (1, 1)], 5), [1, 1]);
        // 4 x 8 places are 8 rows of 4 + 0 tokens.
        assert_eq!(cut(&[(1, 0); 20], 8), [8, 8, 4]);
        assert_eq!(cut(&[], 5), Vec::<usize>::new());
    }

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
