//! The key-value cache: rows of different lengths in one block.
//!
//! Prompts are padded on the right, as in training, and every row writes its generated tokens to the same slots
//! behind the longest prompt. A row's own prompt may be shorter: the slots between its end and the longest one are
//! masked for good. Positions, and so rotations, are the row's own.

use burn::tensor::{Int, Tensor, backend::Backend};

/// Keys and values of the layers that run, `[rows, kv_heads, slots, head_dim]` each.
#[derive(Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<Option<(Tensor<B, 4>, Tensor<B, 4>)>>,
    filled: Vec<usize>,
    capacity: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for `depth` layers and at most `capacity` slots. Memory is taken when a layer first writes.
    pub(crate) fn new(depth: usize, capacity: usize) -> Self {
        Self { layers: vec![None; depth], filled: vec![0; depth], capacity }
    }

    /// Appends the keys and values of new tokens to a layer (from 1) and returns all it has.
    pub(crate) fn extend(&mut self, layer: usize, k: Tensor<B, 4>, v: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let [rows, heads, new, head_dim] = k.dims();
        let slots = self.filled[layer - 1]..self.filled[layer - 1] + new;
        let (keys, values) = self.layers[layer - 1].take().unwrap_or_else(|| {
            let empty = || Tensor::<B, 4>::zeros([rows, heads, self.capacity, head_dim], &k.device()).cast(k.dtype());
            (empty(), empty())
        });
        let write = |all: Tensor<B, 4>, new| all.slice_assign([0..rows, 0..heads, slots.clone(), 0..head_dim], new);
        let (keys, values) = (write(keys, k), write(values, v));
        let read = |all: &Tensor<B, 4>| all.clone().narrow(2, 0, slots.end);
        let seen = (read(&keys), read(&values));
        self.layers[layer - 1] = Some((keys, values));
        self.filled[layer - 1] = slots.end;
        seen
    }

    /// Keeps the given rows only.
    pub(crate) fn keep_rows(&mut self, rows: &Tensor<B, 1, Int>) {
        for (keys, values) in self.layers.iter_mut().flatten() {
            *keys = keys.clone().select(0, rows.clone());
            *values = values.clone().select(0, rows.clone());
        }
    }
}
