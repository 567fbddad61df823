//! What the layers of one forward pass share.

use std::cmp::Ordering;

use bupo_core::kernels::{CausalTile, RopeTable, add_rows, causal_tiles, runs_on_gpu};
use bupo_core::kv_cache::KvCache;
use bupo_core::token_tensor;
use burn::tensor::{Int, Tensor, backend::Backend};

use super::Decoder;
use crate::sequence::{Sequence, SequenceBatch, packed_batches, token_batches};

/// Positions and mask of one forward pass, and the KV cache that it reads and extends.
#[derive(Debug)]
pub struct ForwardContext<B: Backend> {
    /// Tokens of each row.
    pub(crate) seq: usize,
    /// Where the tokens of a packed batch are in the rows that attention takes.
    pub(crate) rows: Option<PackedRows<B>>,
    pub(crate) table: RopeTable<B>,
    /// Tiles of queries; empty with a cache.
    pub(crate) tiles: Vec<CausalTile<B>>,
    /// Keys and values of earlier tokens; those of this pass are appended.
    pub(crate) cache: Option<KvCache<B>>,
    /// Keys and values of this pass by layer, if a cache will be filled with them.
    pub(crate) collected: Option<Vec<(Tensor<B, 4>, Tensor<B, 4>)>>,
}

impl<B: Backend> ForwardContext<B> {
    /// Values of tokens `[tokens, ..]` in the rows that attention takes, `[rows * seq, ..]`.
    pub(crate) fn in_rows<const N: usize>(&self, values: [&Tensor<B, 2>; N]) -> [Tensor<B, 2>; N] {
        values.map(|values| match &self.rows {
            Some(rows) => rows.places(values.clone()),
            None => values.clone(),
        })
    }

    /// The gradient of [`Self::in_rows`].
    pub(crate) fn gradient_from_rows(&self, gradient: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.rows {
            Some(rows) => rows.places_gradient(gradient),
            None => gradient,
        }
    }

    /// Values of the tokens from those of the rows that attention takes.
    pub(crate) fn out_of_rows(&self, values: &Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.rows {
            Some(rows) => rows.tokens(values.clone()),
            None => values.clone(),
        }
    }

    /// The gradient of [`Self::out_of_rows`].
    pub(crate) fn gradient_in_rows(&self, gradient: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.rows {
            Some(rows) => rows.tokens_gradient(gradient),
            None => gradient,
        }
    }
}

impl<B: Backend> Decoder<B> {
    /// A pass over whole sequences of `seq` tokens from position 0, with causal attention.
    ///
    /// Shorter sequences are padded on the right, which does not affect the tokens before the padding. With dynamic
    /// rope scaling, frequencies are those of `seq` tokens, padding included, as in transformers.
    pub fn prefill_context(&self, seq: usize) -> ForwardContext<B> {
        let tiles = causal_tiles(seq, self.activation_dtype(), &self.device());
        ForwardContext {
            seq,
            rows: None,
            table: self.rope_table((0..seq).map(|position| (position, seq)), seq),
            tiles,
            cache: None,
            collected: None,
        }
    }

    /// The order of sequences in which [`Self::batches`] spare most: by prompts where these are shared, else by length, since neighbours of
    /// similar length need little padding.
    pub fn batch_order(&self, a: &Sequence, b: &Sequence) -> Ordering {
        let by_length = a.len().cmp(&b.len());
        if runs_on_gpu::<B>() { by_length } else { a.prompt.cmp(&b.prompt).then(by_length) }
    }

    /// Splits items, in order, into batches of at most `max_tokens` tokens that the layers compute; an item that has more is a batch of
    /// its own.
    pub fn batches<'a, T>(
        &self,
        items: &'a [T],
        sequence: impl Fn(&T) -> &Sequence,
        max_tokens: usize,
    ) -> Vec<&'a [T]> {
        if runs_on_gpu::<B>() {
            return token_batches(items, |item| sequence(item).len(), max_tokens);
        }
        packed_batches(items, sequence, max_tokens)
    }

    /// Sequences as one batch of this decoder: packed on CPUs, where the layers' work is products of tokens, if that spares any.
    pub fn batch<'a>(&self, sequences: impl IntoIterator<Item = &'a Sequence>) -> SequenceBatch {
        let sequences: Vec<&Sequence> = sequences.into_iter().collect();
        let padded = SequenceBatch::padded(sequences.iter().copied());
        if runs_on_gpu::<B>() {
            return padded;
        }
        let packed = SequenceBatch::packed(sequences);
        if packed.num_tokens() < padded.num_tokens() { packed } else { padded }
    }

    /// A pass over the tokens of a batch.
    pub fn batch_context(&self, batch: &SequenceBatch) -> ForwardContext<B> {
        let rows = batch.rows().map(|rows| PackedRows::new(rows, batch.num_tokens(), &self.device()));
        ForwardContext { rows, ..self.prefill_context(batch.longest()) }
    }

    /// A pass over one token per row, at the position after the cached tokens of the row.
    pub(crate) fn decode_context(&self, mut cache: KvCache<B>) -> ForwardContext<B> {
        let table = cache.rotation(|positions, seq| {
            self.rope_table(positions.iter().map(|position| (*position, position + 1)), seq)
        });
        ForwardContext { seq: 1, rows: None, table, tiles: Vec::new(), cache: Some(cache), collected: None }
    }

    /// Of each `(position, sequence length)`.
    fn rope_table(&self, places: impl IntoIterator<Item = (usize, usize)>, seq: usize) -> RopeTable<B> {
        let head_dim = self.head_dim();
        let (angles, factor) = (self.rope.angles(head_dim, places), self.rope.attention_factor());
        RopeTable::new(&angles, factor, head_dim, seq, self.activation_dtype(), &self.device())
    }
}

/// Where the tokens of a packed batch are in rows of equal length.
#[derive(Debug)]
pub(crate) struct PackedRows<B: Backend> {
    /// The token of each place, `[rows * seq]`; padding has any of its row.
    token_of: Tensor<B, 1, Int>,
    /// The first place of each token, `[tokens]`.
    place_of: Tensor<B, 1, Int>,
    /// As `token_of`, for the first place of each token; one more than the last token for all others.
    first_of: Tensor<B, 1, Int>,
    tokens: usize,
}

impl<B: Backend> PackedRows<B> {
    fn new(token_of: &[u32], tokens: usize, device: &B::Device) -> Self {
        let mut place_of = vec![u32::MAX; tokens];
        let mut first_of = vec![tokens as u32; token_of.len()];
        for (place, token) in token_of.iter().enumerate() {
            if place_of[*token as usize] == u32::MAX {
                place_of[*token as usize] = place as u32;
                first_of[place] = *token;
            }
        }
        let [token_of, place_of, first_of] = [token_of, &place_of, &first_of].map(|index| token_tensor(index, device));
        Self { token_of, place_of, first_of, tokens }
    }

    /// Values of tokens in all their places.
    pub(crate) fn places(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        values.select(0, self.token_of.clone())
    }

    /// The gradient of [`Self::places`]: the sums over the places of each token.
    pub(crate) fn places_gradient(&self, d_places: Tensor<B, 2>) -> Tensor<B, 2> {
        let ([_, width], device) = (d_places.dims(), d_places.device());
        let sums = Tensor::zeros([self.tokens, width], (&device, d_places.dtype()));
        add_rows(sums, self.token_of.clone(), d_places)
    }

    /// Values of places, of each token's first one; those of a token are equal in all its places.
    pub(crate) fn tokens(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        values.select(0, self.place_of.clone())
    }

    /// The gradient of [`Self::tokens`].
    pub(crate) fn tokens_gradient(&self, d_tokens: Tensor<B, 2>) -> Tensor<B, 2> {
        let ([_, width], device) = (d_tokens.dims(), d_tokens.device());
        let zeros = Tensor::zeros([1, width], (&device, d_tokens.dtype()));
        Tensor::cat(vec![d_tokens, zeros], 0).select(0, self.first_of.clone())
    }
}
