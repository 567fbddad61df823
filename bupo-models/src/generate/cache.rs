//! The key-value cache: rows of different lengths in one block.
//!
//! Prompts are padded on the right, as in training, and every row writes its generated tokens to the same slots
//! behind the longest prompt. A row's own prompt may be shorter: the slots between its end and the longest one are
//! masked for good. Positions, and so rotations, are the row's own.

use burn::tensor::{Int, Tensor, backend::Backend};

/// Slots are added this many at a time, so that writing rarely copies and short responses take little memory.
const SLOTS_ADDED: usize = 64;

/// Keys and values of the layers that run.
#[derive(Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<Option<LayerCache<B>>>,
}

/// Keys and values of one layer, `[rows, kv_heads, slots, head_dim]`.
#[derive(Debug, Clone)]
struct LayerCache<B: Backend> {
    keys: Tensor<B, 4>,
    values: Tensor<B, 4>,
    /// How many slots are written.
    filled: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for `depth` layers. Memory is taken when a layer writes.
    pub(crate) fn new(depth: usize) -> Self {
        Self { layers: vec![None; depth] }
    }

    /// Appends the keys and values of new tokens to a layer (from 1) and returns all it has.
    pub(crate) fn extend(&mut self, layer: usize, k: Tensor<B, 4>, v: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let Some(LayerCache { keys, values, filled }) = self.layers[layer - 1].take() else {
            self.layers[layer - 1] = Some(LayerCache { keys: k.clone(), values: v.clone(), filled: k.dims()[2] });
            return (k, v);
        };
        let end = filled + k.dims()[2];
        let (keys, values) = (written(keys, k, filled), written(values, v, filled));
        let seen = (keys.clone().narrow(2, 0, end), values.clone().narrow(2, 0, end));
        self.layers[layer - 1] = Some(LayerCache { keys, values, filled: end });
        seen
    }

    /// Keeps the given rows only.
    pub(crate) fn keep_rows(&mut self, rows: &Tensor<B, 1, Int>) {
        for layer in self.layers.iter_mut().flatten() {
            layer.keys = layer.keys.clone().select(0, rows.clone());
            layer.values = layer.values.clone().select(0, rows.clone());
        }
    }
}

/// Writes `new` behind the first `filled` slots of `all`, in place where there is room.
fn written<B: Backend>(all: Tensor<B, 4>, new: Tensor<B, 4>, filled: usize) -> Tensor<B, 4> {
    let [rows, heads, slots, head_dim] = all.dims();
    let end = filled + new.dims()[2];
    let all = if end > slots {
        let room = [rows, heads, end - slots + SLOTS_ADDED, head_dim];
        Tensor::cat(vec![all, Tensor::<B, 4>::zeros(room, &new.device()).cast(new.dtype())], 2)
    } else {
        all
    };
    all.slice_assign([0..rows, 0..heads, filled..end, 0..head_dim], new)
}
