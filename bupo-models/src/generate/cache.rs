//! The key-value cache: rows of different lengths, each at its own position.

use bupo_core::kernels::{CacheRoom, KvLayer};
use burn::tensor::{Tensor, backend::Backend};

/// Keys and values of the layers that run.
#[derive(Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<KvLayer<B>>,
    room: CacheRoom,
    /// Of each row, where its next token goes.
    positions: Vec<usize>,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for `depth` layers.
    pub(crate) fn new(depth: usize, room: CacheRoom) -> Self {
        Self { layers: (0..depth).map(|_| KvLayer::new()).collect(), room, positions: Vec::new() }
    }

    /// Adds rows: each `(i, len)` of `sources` becomes a row of the first `len` tokens of row `i` of what a pass collected by
    /// layer. Rows of one prompt are made of one.
    pub(crate) fn admit(&mut self, collected: &[(Tensor<B, 4>, Tensor<B, 4>)], sources: &[(usize, usize)]) {
        for (layer, (keys, values)) in self.layers.iter_mut().zip(collected) {
            layer.admit(keys, values, sources, self.room);
        }
        self.positions.extend(sources.iter().map(|(_, len)| len));
    }

    /// Keeps the given rows only.
    pub(crate) fn keep(&mut self, rows: &[usize]) {
        self.layers.iter_mut().for_each(|layer| layer.keep(rows));
        self.positions = rows.iter().map(|row| self.positions[*row]).collect();
    }

    /// Where each row's next token goes.
    pub(crate) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Goes on to the tokens after those that all layers have just read.
    pub(crate) fn advance(&mut self) {
        self.positions.iter_mut().for_each(|position| *position += 1);
    }

    /// Whether rows are left out without moving the others.
    pub(crate) fn keeps_in_place(&self) -> bool {
        self.layers.first().is_none_or(KvLayer::keeps_in_place)
    }

    /// Writes the newest tokens' keys and values of a layer (from 1) and returns what their queries read, `[rows, heads * head_dim]`.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        scale: f64,
    ) -> Tensor<B, 2> {
        self.layers[layer - 1].attend(q, k, v, &self.positions, scale)
    }
}
