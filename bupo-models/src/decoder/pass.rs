//! What one forward pass carries from layer to layer.

use bupo_core::kernels::{CausalTile, KvCache, RotationTable, causal_tiles};
use burn::tensor::{Tensor, backend::Backend};

use super::Decoder;

/// Positions of one forward pass, and the cache it reads or fills. What layers share of it is on the device once.
#[derive(Debug)]
pub struct Pass<B: Backend> {
    /// Tokens of each row.
    pub(crate) seq: usize,
    pub(crate) table: RotationTable<B>,
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
    pub fn whole_pass(&self, seq: usize) -> Pass<B> {
        let tiles = causal_tiles(seq, self.computes_in.dtype(), &self.device());
        Pass { seq, table: self.rotation_table(0..seq, seq), tiles, cache: None, collected: None }
    }

    /// A pass over one token a row, each at its own position behind what the cache has of its row.
    pub(crate) fn next_pass(&self, cache: KvCache<B>) -> Pass<B> {
        let table = self.rotation_table(cache.positions().iter().copied(), 1);
        Pass { seq: 1, table, tiles: Vec::new(), cache: Some(cache), collected: None }
    }

    fn rotation_table(&self, positions: impl IntoIterator<Item = usize>, seq: usize) -> RotationTable<B> {
        let frequencies = self.rope.frequencies(self.head_dim());
        RotationTable::new(&frequencies, positions, seq, self.computes_in.dtype(), &self.device())
    }
}
