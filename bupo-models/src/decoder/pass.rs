//! What one forward pass carries from layer to layer.

use bupo_core::kernels::RotationTable;
use burn::tensor::{Tensor, backend::Backend};

use super::Decoder;
use crate::generate::KvCache;

/// Positions of one forward pass, and the cache it reads or fills.
#[derive(Debug)]
pub struct Pass<B: Backend> {
    /// Tokens of each row.
    pub(crate) seq: usize,
    pub(crate) table: RotationTable,
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
        Pass { seq, table: self.rotation_table(0..seq, seq), cache: None, collected: None }
    }

    /// A pass over one token a row, each at its own position behind what the cache has of its row.
    pub(crate) fn next_pass(&self, cache: KvCache<B>) -> Pass<B> {
        let table = self.rotation_table(cache.positions().iter().copied(), 1);
        Pass { seq: 1, table, cache: Some(cache), collected: None }
    }

    fn rotation_table(&self, positions: impl IntoIterator<Item = usize>, seq: usize) -> RotationTable {
        RotationTable::new(&self.rope.frequencies(self.head_dim()), positions, seq)
    }
}
