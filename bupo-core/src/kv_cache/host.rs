//! Keys and values in host memory, written in place.

use rayon::prelude::*;

use super::CacheRoom;
use crate::kernels::host::{exp, max, sum, vectorized};

/// One layer's keys and values: allocated once for the whole capacity; pages that are never written take no memory.
#[derive(Debug)]
pub(super) struct HostKv {
    /// `[rows, kv_heads, head_dim, slots]`, so that the scores of all slots are computed together.
    keys: Vec<f32>,
    /// `[rows, kv_heads, slots, head_dim]`.
    values: Vec<f32>,
    kv_heads: usize,
    slots: usize,
    head_dim: usize,
    /// The index in memory of each live row.
    rows: Vec<usize>,
    free: Vec<usize>,
}

impl HostKv {
    /// No rows yet.
    pub(super) fn new(room: CacheRoom, kv_heads: usize, head_dim: usize) -> Self {
        let count = room.rows * kv_heads * room.slots * head_dim;
        Self {
            keys: vec![0.0; count],
            values: vec![0.0; count],
            kv_heads,
            slots: room.slots,
            head_dim,
            rows: Vec::new(),
            free: (0..room.rows).rev().collect(),
        }
    }

    pub(super) fn keep(&mut self, rows: &[usize]) {
        let kept: Vec<usize> = rows.iter().map(|row| self.rows[*row]).collect();
        let gone: Vec<usize> = self.rows.iter().copied().filter(|row| !kept.contains(row)).collect();
        self.free.extend(gone);
        self.rows = kept;
    }

    pub(super) fn admit(&mut self, keys: &[f32], values: &[f32], seq: usize, (source, len): (usize, usize)) {
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

    pub(super) fn write(&mut self, k: &[f32], v: &[f32], positions: &[usize]) {
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

    pub(super) fn attend(&self, q: &[f32], heads: usize, positions: &[usize], scale: f32) -> Vec<f32> {
        let (head_dim, slots, group) = (self.head_dim, self.slots, heads / self.kv_heads);
        let mut mixed = vec![0.0; positions.len() * heads * head_dim];
        // A task is the query heads of one row that share a KV head.
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
    // Four dimensions at a time, so that scores are read and written a quarter as often.
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
