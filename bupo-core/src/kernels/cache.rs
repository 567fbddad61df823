//! Keys and values of one layer for rows that grow token by token, and the attention that reads them.

use burn::tensor::{DType, Tensor, TensorData, activation::softmax, backend::Backend};
use rayon::prelude::*;

use super::host::{Host, exp, hosted, max, sum, vectorized};
use crate::policy::token_tensor;

/// Slots are added this many at a time where tensors hold them: few distinct shapes, and short rows take little memory.
const SLOTS_ADDED: usize = 64;
/// The score of a slot that is not written yet; finite, so that nothing becomes NaN.
const MASKED: f32 = -1e9;

/// The keys and values of one layer. Rows have lengths of their own; a row's slots are its positions.
#[derive(Debug)]
pub struct KvLayer<B: Backend> {
    kind: Kind<B>,
}

#[derive(Debug)]
enum Kind<B: Backend> {
    Empty,
    Host(HostKv),
    /// `[rows, kv_heads, slots, head_dim]`, zero where nothing is written.
    Tensors {
        keys: Tensor<B, 4>,
        values: Tensor<B, 4>,
    },
}

/// Memory taken once for as many rows as there will ever be, written in place; what is never written takes none.
#[derive(Debug)]
struct HostKv {
    /// `[rows, kv_heads, head_dim, slots]`: scores of all slots are added up together.
    keys: Vec<f32>,
    /// `[rows, kv_heads, slots, head_dim]`.
    values: Vec<f32>,
    kv_heads: usize,
    slots: usize,
    head_dim: usize,
    /// Where each live row lies.
    rows: Vec<usize>,
    free: Vec<usize>,
}

/// How much a cache will ever hold.
#[derive(Debug, Clone, Copy)]
pub struct CacheRoom {
    /// Rows at once.
    pub rows: usize,
    /// Tokens of the longest row.
    pub slots: usize,
}

impl<B: Backend> KvLayer<B> {
    /// No rows. Memory is taken when some are admitted.
    pub fn new() -> Self {
        Self { kind: Kind::Empty }
    }

    /// Adds rows behind those there are: each `(i, len)` of `sources` becomes a row of the first `len` tokens of row `i` of
    /// `keys` and `values`, `[prompts, kv_heads, seq, head_dim]`.
    pub fn admit(&mut self, keys: &Tensor<B, 4>, values: &Tensor<B, 4>, sources: &[(usize, usize)], room: CacheRoom) {
        let [_, kv_heads, seq, head_dim] = keys.dims();
        if let Kind::Empty = self.kind
            && hosted(keys)
        {
            let count = room.rows * kv_heads * room.slots * head_dim;
            self.kind = Kind::Host(HostKv {
                keys: vec![0.0; count],
                values: vec![0.0; count],
                kv_heads,
                slots: room.slots,
                head_dim,
                rows: Vec::new(),
                free: (0..room.rows).rev().collect(),
            });
        }
        if let Kind::Host(kv) = &mut self.kind {
            let (keys, values) = (Host::take(keys.clone()), Host::take(values.clone()));
            sources.iter().for_each(|source| kv.admit(keys.values(), values.values(), seq, *source));
            return;
        }
        let device = keys.device();
        let index: Vec<u32> = sources.iter().map(|(row, _)| *row as u32).collect();
        let index = token_tensor(&index, &device);
        // What lies behind a shorter prompt must be zero: tokens are added to it.
        let written: Vec<f32> =
            sources.iter().flat_map(|(_, len)| (0..seq).map(move |slot| f32::from(u8::from(slot < *len)))).collect();
        let written = Tensor::<B, 4>::from_data(TensorData::new(written, [sources.len(), 1, seq, 1]), &device);
        let written = written.cast(keys.dtype());
        let rows = [keys, values].map(|all| all.clone().select(0, index.clone()) * written.clone());
        let [keys, values] = match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Tensors { keys, values } => {
                let slots = keys.dims()[2].max(seq);
                let [new_keys, new_values] = rows.map(|rows| widened(rows, slots));
                [
                    Tensor::cat(vec![widened(keys, slots), new_keys], 0),
                    Tensor::cat(vec![widened(values, slots), new_values], 0),
                ]
            }
            _ => rows,
        };
        self.kind = Kind::Tensors { keys, values };
    }

    /// Keeps the given rows only, in their order.
    pub fn keep(&mut self, rows: &[usize]) {
        match &mut self.kind {
            Kind::Empty => {}
            Kind::Host(kv) => {
                let kept: Vec<usize> = rows.iter().map(|row| kv.rows[*row]).collect();
                let gone: Vec<usize> = kv.rows.iter().copied().filter(|row| !kept.contains(row)).collect();
                kv.free.extend(gone);
                kv.rows = kept;
            }
            Kind::Tensors { keys, values } => {
                let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
                let index = token_tensor(&index, &keys.device());
                *keys = keys.clone().select(0, index.clone());
                *values = values.clone().select(0, index);
            }
        }
    }

    /// Writes each row's next token at its position and returns what its queries read of all it has, `[rows, heads * head_dim]`.
    ///
    /// `q` is `[rows, heads, 1, head_dim]`, `k` and `v` are `[rows, kv_heads, 1, head_dim]`; there is a position for every row.
    pub fn attend(
        &mut self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        positions: &[usize],
        scale: f64,
    ) -> Tensor<B, 2> {
        let ([rows, heads, _, head_dim], device) = (q.dims(), q.device());
        match &mut self.kind {
            Kind::Empty => panic!("rows are admitted before they are read"),
            Kind::Host(kv) => {
                let (q, k, v) = (Host::take(q), Host::take(k), Host::take(v));
                kv.write(k.values(), v.values(), positions);
                let mixed = kv.attend(q.values(), heads, positions, scale as f32);
                Tensor::from_data(TensorData::new(mixed, [rows, heads * head_dim]), &device)
            }
            Kind::Tensors { keys, values } => {
                let [_, kv_heads, slots, _] = keys.dims();
                let longest = positions.iter().max().map_or(0, |position| position + 1);
                let slots = if longest > slots { longest.next_multiple_of(SLOTS_ADDED) } else { slots };
                *keys = added(widened(keys.clone(), slots), k, positions);
                *values = added(widened(values.clone(), slots), v, positions);
                // Few distinct lengths are read, so that few kernels are made.
                let seen = longest.next_multiple_of(SLOTS_ADDED).min(slots);
                let mask: Vec<f32> = positions
                    .iter()
                    .flat_map(|position| (0..seen).map(move |slot| if slot > *position { MASKED } else { 0.0 }))
                    .collect();
                let mask = Tensor::<B, 4>::from_data(TensorData::new(mask, [rows, 1, 1, seen]), &device);
                let (k, v) = (keys.clone().narrow(2, 0, seen), values.clone().narrow(2, 0, seen));
                let q = q.reshape([rows, kv_heads, heads / kv_heads, head_dim]);
                let dtype = q.dtype();
                let scores = q.matmul(k.transpose()).cast(DType::F32) * scale + mask;
                softmax(scores, 3).cast(dtype).matmul(v).reshape([rows, heads * head_dim])
            }
        }
    }

    /// Whether rows are left out without moving the others.
    pub fn keeps_in_place(&self) -> bool {
        matches!(self.kind, Kind::Host(_))
    }
}

impl<B: Backend> Default for KvLayer<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl HostKv {
    fn admit(&mut self, keys: &[f32], values: &[f32], seq: usize, (source, len): (usize, usize)) {
        let row = self.free.pop().unwrap_or_else(|| panic!("a cache has room for the rows it was made for"));
        self.rows.push(row);
        for head in 0..self.kv_heads {
            let from = (source * self.kv_heads + head) * seq * self.head_dim;
            let to = (row * self.kv_heads + head) * self.slots * self.head_dim;
            for slot in 0..len {
                let token = from + slot * self.head_dim;
                for i in 0..self.head_dim {
                    self.keys[to + i * self.slots + slot] = keys[token + i];
                }
            }
            let len = len * self.head_dim;
            self.values[to..to + len].copy_from_slice(&values[from..from + len]);
        }
    }

    fn write(&mut self, k: &[f32], v: &[f32], positions: &[usize]) {
        for (index, (row, slot)) in self.rows.iter().zip(positions).enumerate() {
            for head in 0..self.kv_heads {
                let from = (index * self.kv_heads + head) * self.head_dim;
                let to = (row * self.kv_heads + head) * self.slots * self.head_dim;
                for i in 0..self.head_dim {
                    self.keys[to + i * self.slots + slot] = k[from + i];
                }
                let value = to + slot * self.head_dim;
                self.values[value..value + self.head_dim].copy_from_slice(&v[from..from + self.head_dim]);
            }
        }
    }

    fn attend(&self, q: &[f32], heads: usize, positions: &[usize], scale: f32) -> Vec<f32> {
        let (head_dim, slots, group) = (self.head_dim, self.slots, heads / self.kv_heads);
        let mut mixed = vec![0.0; positions.len() * heads * head_dim];
        // A task is the query heads of one row that share a key head.
        mixed.par_chunks_mut(group * head_dim).enumerate().for_each(|(task, mixed)| {
            let (index, head) = (task / self.kv_heads, task % self.kv_heads);
            let seen = positions[index] + 1;
            let at = (self.rows[index] * self.kv_heads + head) * slots * head_dim;
            let (keys, values) = (&self.keys[at..at + slots * head_dim], &self.values[at..at + slots * head_dim]);
            let mut scores = vec![0.0_f32; seen];
            vectorized(|| {
                for (member, mixed) in mixed.chunks_exact_mut(head_dim).enumerate() {
                    let q = &q[(index * heads + head * group + member) * head_dim..][..head_dim];
                    attend_row(q, keys, values, slots, scale, &mut scores, mixed);
                }
            });
        });
        mixed
    }
}

#[inline(always)]
fn attend_row(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    slots: usize,
    scale: f32,
    scores: &mut [f32],
    mixed: &mut [f32],
) {
    let seen = scores.len();
    scores.fill(0.0);
    // Four dimensions at a time: scores are read and written a quarter as often.
    let mut dims = q.chunks_exact(4).zip(keys.chunks_exact(4 * slots));
    for (q, keys) in dims.by_ref() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| &keys[i * slots..i * slots + seen]);
        for (j, score) in scores.iter_mut().enumerate() {
            *score += (q[0] * a[j] + q[1] * b[j]) + (q[2] * c[j] + q[3] * d[j]);
        }
    }
    let rest = q.len() / 4 * 4;
    for (q, keys) in q[rest..].iter().zip(keys[rest * slots..].chunks_exact(slots)) {
        scores.iter_mut().zip(keys).for_each(|(score, key)| *score += q * key);
    }
    let largest = max(scores);
    scores.iter_mut().for_each(|score| *score = exp((*score - largest) * scale));
    let inverse = 1.0 / sum(scores, |score| score);
    for (score, value) in scores.iter().zip(values.chunks_exact(q.len())) {
        let weight = score * inverse;
        mixed.iter_mut().zip(value).for_each(|(mixed, value)| *mixed += weight * value);
    }
}

/// `all` with zeros up to `slots`.
fn widened<B: Backend>(all: Tensor<B, 4>, slots: usize) -> Tensor<B, 4> {
    let [rows, heads, have, head_dim] = all.dims();
    if have >= slots {
        return all;
    }
    let more = Tensor::<B, 4>::zeros([rows, heads, slots - have, head_dim], &all.device()).cast(all.dtype());
    Tensor::cat(vec![all, more], 2)
}

/// `all` with each row's new token `[rows, kv_heads, 1, head_dim]` added at its position, which holds zeros.
fn added<B: Backend>(all: Tensor<B, 4>, new: Tensor<B, 4>, positions: &[usize]) -> Tensor<B, 4> {
    let [rows, heads, slots, head_dim] = all.dims();
    let index: Vec<u32> = positions
        .iter()
        .enumerate()
        .flat_map(|(row, slot)| (0..heads).map(move |head| ((row * heads + head) * slots + slot) as u32))
        .collect();
    let index = token_tensor(&index, &all.device());
    let flat = all.reshape([rows * heads * slots, head_dim]);
    let new = new.reshape([rows * heads, head_dim]);
    flat.select_assign(0, index, new, burn::tensor::IndexingUpdateOp::Add).reshape([rows, heads, slots, head_dim])
}
