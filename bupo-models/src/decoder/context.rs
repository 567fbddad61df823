//! What the layers of one forward pass share.

use bupo_core::kernels::{CausalTile, RopeTable, causal_tiles};
use bupo_core::kv_cache::KvCache;
use burn::tensor::{Tensor, backend::Backend};

use super::Decoder;

/// Positions and mask of one forward pass, and the KV cache that it reads and extends.
#[derive(Debug)]
pub struct ForwardContext<B: Backend> {
    /// Tokens of each row.
    pub(crate) seq: usize,
    pub(crate) table: RopeTable<B>,
    /// Tiles of queries; empty with a cache.
    pub(crate) tiles: Vec<CausalTile<B>>,
    /// Keys and values of earlier tokens; those of this pass are appended.
    pub(crate) cache: Option<KvCache<B>>,
    /// Keys and values of this pass by layer, if a cache will be filled with them.
    pub(crate) collected: Option<Vec<(Tensor<B, 4>, Tensor<B, 4>)>>,
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
            table: self.rope_table((0..seq).map(|position| (position, seq)), seq),
            tiles,
            cache: None,
            collected: None,
        }
    }

    /// A pass over one token per row, at the position after the cached tokens of the row.
    pub(crate) fn decode_context(&self, mut cache: KvCache<B>) -> ForwardContext<B> {
        let table = cache.rotation(|positions, seq| {
            self.rope_table(positions.iter().map(|position| (*position, position + 1)), seq)
        });
        ForwardContext { seq: 1, table, tiles: Vec::new(), cache: Some(cache), collected: None }
    }

    /// Of each `(position, sequence length)`.
    fn rope_table(&self, places: impl IntoIterator<Item = (usize, usize)>, seq: usize) -> RopeTable<B> {
        let head_dim = self.head_dim();
        let (angles, factor) = (self.rope.angles(head_dim, places), self.rope.attention_factor());
        RopeTable::new(&angles, factor, head_dim, seq, self.activation_dtype(), &self.device())
    }
}
