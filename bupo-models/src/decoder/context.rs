//! What one forward pass carries from layer to layer.

use bupo_core::kernels::{CausalTile, RopeTable, causal_tiles};
use bupo_core::kv_cache::KvCache;
use burn::tensor::{Tensor, backend::Backend};

use super::Decoder;

/// Positions of one forward context, and the cache it reads or fills. What layers share of it is on the device once.
#[derive(Debug)]
pub struct ForwardContext<B: Backend> {
    /// Tokens of each row.
    pub(crate) seq: usize,
    pub(crate) table: RopeTable<B>,
    /// Queries that are run at once, where there is no cache.
    pub(crate) tiles: Vec<CausalTile<B>>,
    /// Keys and values of earlier tokens, which those of this pass are added to.
    pub(crate) cache: Option<KvCache<B>>,
    /// Keys and values of this pass by layer, where a cache is to be made of them.
    pub(crate) collected: Option<Vec<(Tensor<B, 4>, Tensor<B, 4>)>>,
}

impl<B: Backend> Decoder<B> {
    /// A pass over whole sequences of `seq` tokens from position 0, every token seeing those before it.
    ///
    /// Shorter sequences are padded on the right: what follows a token never reaches it.
    pub fn prefill_context(&self, seq: usize) -> ForwardContext<B> {
        let tiles = causal_tiles(seq, self.compute_dtype.dtype(), &self.device());
        ForwardContext { seq, table: self.rope_table(0..seq, seq), tiles, cache: None, collected: None }
    }

    /// A pass over one token a row, each at its own position behind what the cache has of its row.
    pub(crate) fn decode_context(&self, cache: KvCache<B>) -> ForwardContext<B> {
        let table = self.rope_table(cache.positions().iter().copied(), 1);
        ForwardContext { seq: 1, table, tiles: Vec::new(), cache: Some(cache), collected: None }
    }

    fn rope_table(&self, positions: impl IntoIterator<Item = usize>, seq: usize) -> RopeTable<B> {
        let frequencies = self.rope.frequencies(self.head_dim());
        RopeTable::new(&frequencies, positions, seq, self.compute_dtype.dtype(), &self.device())
    }
}
