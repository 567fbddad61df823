//! Keys and values as tensors in device memory.
//!
//! All rows end at the same slot, so that the next tokens of rows of any length are written in one operation. The slots
//! before a row's first token hold arbitrary finite values and are masked.

use burn::tensor::{DType, Tensor, TensorData, activation::softmax, backend::Backend};

use crate::kernels::matmul;
use crate::tokens::token_tensor;

/// Slots are allocated in multiples of this: few distinct shapes, and little memory for short rows.
const SLOTS_ADDED: usize = 64;
/// Added to the score of a slot outside a row; finite, so that no NaN arises.
const MASKED: f32 = -1e9;

#[derive(Debug)]
pub(super) struct TensorKv<B: Backend> {
    /// Keys and values by layer, `[rows, kv_heads, slots, head_dim]`.
    layers: Vec<[Tensor<B, 4>; 2]>,
    /// The slot after every row's newest token.
    end: usize,
    slots: usize,
    /// The mask of the current step, shared by all layers, `[rows, 1, 1, slots]`.
    mask: Option<Tensor<B, 4>>,
    /// The slot of each row's first token, for the kernels of GPUs.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    starts: Option<Tensor<B, 1, burn::tensor::Int>>,
}

impl<B: Backend> TensorKv<B> {
    pub(super) fn new(layers: &[(Tensor<B, 4>, Tensor<B, 4>)], sources: &[(usize, usize)]) -> Self {
        let end = longest(sources);
        let slots = slots_for(end);
        let layers = ending_at(layers, sources, end).into_iter();
        let layers = layers.map(|layer| layer.map(|rows| relaid(rows, 0, end, 0, slots))).collect();
        Self {
            layers,
            end,
            slots,
            mask: None,
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            starts: None,
        }
    }

    pub(super) fn admit(
        &mut self,
        layers: &[(Tensor<B, 4>, Tensor<B, 4>)],
        sources: &[(usize, usize)],
        positions: &[usize],
    ) {
        self.relay(positions, longest(sources));
        let new = ending_at(layers, sources, self.end);
        for (old, new) in self.layers.iter_mut().zip(new) {
            let [old_keys, old_values] = old.clone();
            let [keys, values] = new.map(|rows| relaid(rows, 0, self.end, 0, self.slots));
            *old = [Tensor::cat(vec![old_keys, keys], 0), Tensor::cat(vec![old_values, values], 0)];
        }
        self.rows_changed();
    }

    pub(super) fn keep(&mut self, rows: &[usize]) {
        let Some([keys, _]) = self.layers.first() else { return };
        let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let index = token_tensor(&index, &keys.device());
        for layer in &mut self.layers {
            *layer = layer.clone().map(|all| all.select(0, index.clone()));
        }
        self.rows_changed();
    }

    pub(super) fn attend(
        &mut self,
        layer: usize,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        positions: &[usize],
        scale: f64,
    ) -> Tensor<B, 2> {
        let ([rows, heads, _, head_dim], kv_heads) = (q.dims(), k.dims()[1]);
        if self.end == self.slots {
            self.relay(positions, 0);
        }
        let mask = match &self.mask {
            Some(mask) => mask.clone(),
            None => self.mask.insert(self.unseen(positions, &q.device())).clone(),
        };
        let place = [0..rows, 0..kv_heads, self.end..self.end + 1, 0..head_dim];
        let [keys, values] = &mut self.layers[layer - 1];
        // They are not shared, so they are written in place.
        keys.inplace(|keys| keys.slice_assign(place.clone(), k));
        values.inplace(|values| values.slice_assign(place, v));
        let (keys, values) = (keys.clone(), values.clone());
        let dtype = q.dtype();
        let q = q.reshape([rows, kv_heads, heads / kv_heads, head_dim]);
        let scores = matmul(q, keys.transpose(), dtype).cast(DType::F32) * scale + mask;
        matmul(softmax(scores, 3).cast(dtype), values, dtype).reshape([rows, heads * head_dim])
    }

    pub(super) fn advance(&mut self) {
        self.end += 1;
        self.mask = None;
    }

    /// Removes the slots that no row of these lengths uses, and makes room for rows of `longest` tokens and for further
    /// tokens.
    fn relay(&mut self, positions: &[usize], longest: usize) {
        let used = positions.iter().copied().max().unwrap_or(0);
        let end = used.max(longest);
        let slots = slots_for(end);
        for layer in &mut self.layers {
            let from = self.end - used;
            *layer = layer.clone().map(|all| relaid(all, from, used, end - used, slots));
        }
        (self.end, self.slots) = (end, slots);
        self.rows_changed();
    }

    /// Forgets what was computed of the rows' places.
    fn rows_changed(&mut self) {
        self.mask = None;
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        {
            self.starts = None;
        }
    }

    /// Writes a token of each row and attends, from heads before norm and rotation, in two launches.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    #[allow(clippy::too_many_arguments)] // A token's heads and what they are turned by.
    pub(super) fn attend_heads(
        &mut self,
        layer: usize,
        q: Tensor<B, 2>,
        kv: Option<[Tensor<B, 2>; 2]>,
        norms: Option<&bupo_gpu::HeadNorms<B>>,
        table: Tensor<B, 2>,
        positions: &[usize],
        scale: f64,
    ) -> Tensor<B, 2> {
        if self.end == self.slots {
            self.relay(positions, 0);
        }
        let starts = self.starts.get_or_insert_with(|| {
            let starts: Vec<u32> = positions.iter().map(|position| (self.end - position) as u32).collect();
            token_tensor(&starts, &q.device())
        });
        let starts = starts.clone();
        // Taken out, so that they are written in place.
        let Some(cached) = self.layers.get_mut(layer - 1) else { panic!("the cache has the layers that run") };
        let cached = std::mem::replace(cached, [(); 2].map(|()| Tensor::empty([0; 4], &q.device())));
        let (q, cached) = bupo_gpu::rotate_into_cache(q, kv, norms, table, starts.clone(), self.end, cached);
        self.layers[layer - 1] = cached.clone();
        let [keys, values] = cached;
        let rows = bupo_gpu::CacheRows { keys, values, starts, end: self.end + 1 };
        bupo_gpu::attend_cached(q, rows, scale)
    }

    fn unseen(&self, positions: &[usize], device: &B::Device) -> Tensor<B, 4> {
        let mask: Vec<f32> = positions
            .iter()
            .flat_map(|position| {
                let seen = self.end - position..self.end + 1;
                (0..self.slots).map(move |slot| if seen.contains(&slot) { 0.0 } else { MASKED })
            })
            .collect();
        Tensor::from_data(TensorData::new(mask, [positions.len(), 1, 1, self.slots]), (device, DType::F32))
    }
}

fn longest(sources: &[(usize, usize)]) -> usize {
    sources.iter().map(|(_, len)| *len).max().unwrap_or(0)
}

/// Slots for rows that end at `end`, with room for at least one more token.
fn slots_for(end: usize) -> usize {
    (end + 1).next_multiple_of(SLOTS_ADDED)
}

/// The rows of each layer that `sources` names, padded on the left so that all end at `end`:
/// `[rows, kv_heads, end, head_dim]`.
fn ending_at<B: Backend>(
    layers: &[(Tensor<B, 4>, Tensor<B, 4>)],
    sources: &[(usize, usize)],
    end: usize,
) -> Vec<[Tensor<B, 4>; 2]> {
    let Some((keys, _)) = layers.first() else { return Vec::new() };
    let [_, kv_heads, seq, head_dim] = keys.dims();
    let index: Vec<u32> = sources
        .iter()
        .flat_map(|(row, len)| {
            let token = move |slot: usize| (slot + len).saturating_sub(end);
            (0..kv_heads)
                .flat_map(move |head| (0..end).map(move |slot| ((row * kv_heads + head) * seq + token(slot)) as u32))
        })
        .collect();
    let index = token_tensor(&index, &keys.device());
    let gathered = |all: &Tensor<B, 4>| {
        let rows = all.clone().reshape([-1, head_dim as i32]).select(0, index.clone());
        rows.reshape([sources.len(), kv_heads, end, head_dim])
    };
    layers.iter().map(|(keys, values)| [gathered(keys), gathered(values)]).collect()
}

/// `before` slots of zeros, the `count` slots of `all` from `from` on, and zeros up to `slots`.
fn relaid<B: Backend>(all: Tensor<B, 4>, from: usize, count: usize, before: usize, slots: usize) -> Tensor<B, 4> {
    let [rows, heads, _, head_dim] = all.dims();
    let zeros =
        |count: usize| (count > 0).then(|| Tensor::zeros([rows, heads, count, head_dim], (&all.device(), all.dtype())));
    let parts = [zeros(before), Some(all.clone().narrow(2, from, count)), zeros(slots - before - count)];
    Tensor::cat(parts.into_iter().flatten().collect(), 2)
}
