//! Attention on slices: the query heads of a KV head are a task.

use bupo_gemm::{Strided, tile_product};
use rayon::prelude::*;

use super::super::host::{each_row, exp, flushed, max, sum, sum2, vectorized};

/// Queries of a tile: a multiple of the rows that a product has in registers.
const QUERIES: usize = 56;
/// Keys of a tile.
const KEYS: usize = 512;

/// The sizes of an attention.
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) seq: usize,
    pub(super) head_dim: usize,
}

/// What the backward pass reads; layouts as in [`super::attention_backward`].
pub(super) struct BackwardInputs<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) mixed: &'a [f32],
    pub(super) log_sums: &'a [f32],
    pub(super) d_mixed: &'a [f32],
}

impl Shape {
    pub(super) fn new([batch, heads, seq, head_dim]: [usize; 4], [_, kv_heads, ..]: [usize; 4]) -> Self {
        Self { batch, heads, kv_heads, seq, head_dim }
    }

    pub(super) fn merged(&self, heads: usize) -> [usize; 2] {
        [self.batch * self.seq, heads * self.head_dim]
    }

    pub(super) fn split(&self, heads: usize) -> [usize; 4] {
        [self.batch, heads, self.seq, self.head_dim]
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The numbers of one head of one sequence.
    fn head(&self) -> usize {
        self.seq * self.head_dim
    }

    /// The part of merged values `[batch * seq, heads * head_dim]` from a token of a head on, and the distance of rows.
    fn rows<'a>(&self, x: &'a [f32], heads: usize, sequence: usize, token: usize, head: usize) -> (&'a [f32], usize) {
        let width = heads * self.head_dim;
        (&x[(sequence * self.seq + token) * width + head * self.head_dim..], width)
    }

    /// The tiles of queries, each with its tiles of keys: those up to its last query.
    fn tiles(&self) -> impl Iterator<Item = (std::ops::Range<usize>, Vec<std::ops::Range<usize>>)> + use<> {
        let seq = self.seq;
        (0..seq).step_by(QUERIES).map(move |start| {
            let end = (start + QUERIES).min(seq);
            (start..end, (0..end).step_by(KEYS).map(|key| key..(key + KEYS).min(end)).collect())
        })
    }
}

/// The mixed values `[batch * seq, heads * head_dim]` and the log-sums `[batch, heads, seq]`.
pub(super) fn attend(shape: &Shape, q: &[f32], k: &[f32], v: &[f32], scale: f32) -> (Vec<f32>, Vec<f32>) {
    let (head, group) = (shape.head(), shape.group());
    let mut mixed = vec![0.0; shape.batch * shape.heads * head];
    let mut log_sums = vec![0.0; shape.batch * shape.heads * shape.seq];
    mixed
        .par_chunks_mut((group * head).max(1))
        .zip(log_sums.par_chunks_mut((group * shape.seq).max(1)))
        .enumerate()
        .for_each(|(task, (mixed, log_sums))| {
            let (sequence, kv_head) = (task / shape.kv_heads, task % shape.kv_heads);
            let keys = transposed_head(&k[task * head..(task + 1) * head], shape.head_dim);
            let mut scores = vec![0.0; QUERIES * KEYS];
            for member in 0..group {
                let q = &q[(task * group + member) * head..][..head];
                let mixed = &mut mixed[member * head..(member + 1) * head];
                let log_sums = &mut log_sums[member * shape.seq..(member + 1) * shape.seq];
                for (queries, key_tiles) in shape.tiles() {
                    let mut running = [(f32::NEG_INFINITY, 0.0_f32); QUERIES];
                    let mixed = &mut mixed[queries.start * shape.head_dim..queries.end * shape.head_dim];
                    for tile in key_tiles {
                        let size = [queries.len(), shape.head_dim, tile.len()];
                        let q = rows_of(q, queries.start, shape.head_dim);
                        tile_product(size, q, (&keys[tile.start..], shape.seq), (&mut scores, KEYS), false);
                        let is_first = tile.start == 0;
                        vectorized!({
                            for (i, (scores, mixed)) in
                                scores.chunks_mut(KEYS).zip(mixed.chunks_exact_mut(shape.head_dim)).enumerate()
                            {
                                let seen = (queries.start + i + 1).saturating_sub(tile.start).min(tile.len());
                                weigh(&mut scores[..tile.len()], seen, &mut running[i], mixed, scale);
                            }
                        });
                        let values = shape.rows(v, shape.kv_heads, sequence, tile.start, kv_head);
                        let size = [queries.len(), tile.len(), shape.head_dim];
                        let weights = Strided { values: &scores, row: KEYS, column: 1 };
                        tile_product(size, weights, values, (mixed, shape.head_dim), !is_first);
                    }
                    vectorized!({
                        for (i, mixed) in mixed.chunks_exact_mut(shape.head_dim).enumerate() {
                            let (largest, total) = running[i];
                            let inverse = 1.0 / total;
                            mixed.iter_mut().for_each(|mixed| *mixed *= inverse);
                            log_sums[queries.start + i] = largest * scale + total.ln();
                        }
                    });
                }
            }
        });
    (merged(shape, shape.heads, &mixed), log_sums)
}

/// Turns a row of scores into weights relative to the largest score so far; what was mixed before is made relative to
/// it too. Keys after the first `seen` have weight 0.
#[inline(always)]
fn weigh(scores: &mut [f32], seen: usize, running: &mut (f32, f32), mixed: &mut [f32], scale: f32) {
    let (seen, later) = scores.split_at_mut(seen);
    later.fill(0.0);
    let (before, total) = *running;
    let largest = max(seen);
    let largest = if before > largest { before } else { largest };
    for score in seen.iter_mut() {
        *score = exp((*score - largest) * scale);
    }
    let mut new_total = sum(seen, |weight| weight);
    if before > f32::NEG_INFINITY {
        let shrink = exp((before - largest) * scale);
        mixed.iter_mut().for_each(|mixed| *mixed *= shrink);
        new_total += total * shrink;
    }
    *running = (largest, new_total);
}

/// The gradients with respect to queries and keys, `[batch, heads, seq, head_dim]`, and to values,
/// `[batch * seq, kv_heads * head_dim]`.
pub(super) fn attend_backward(shape: &Shape, inputs: &BackwardInputs<'_>, scale: f32) -> [Vec<f32>; 3] {
    let (head, group) = (shape.head(), shape.group());
    let mut d_q = vec![0.0; shape.batch * shape.heads * head];
    let mut d_k = vec![0.0; shape.batch * shape.kv_heads * head];
    let mut d_v = vec![0.0; shape.batch * shape.kv_heads * head];
    d_q.par_chunks_mut((group * head).max(1))
        .zip(d_k.par_chunks_mut(head.max(1)))
        .zip(d_v.par_chunks_mut(head.max(1)))
        .enumerate()
        .for_each(|(task, ((d_q, d_k), d_v))| {
            backward_task(shape, inputs, task, [d_q, d_k, d_v], scale);
        });
    let d_v = merged(shape, shape.kv_heads, &d_v);
    [d_q, d_k, d_v]
}

/// The query heads of one KV head of one sequence.
fn backward_task(shape: &Shape, inputs: &BackwardInputs<'_>, task: usize, outputs: [&mut [f32]; 3], scale: f32) {
    let [d_q, d_k, d_v] = outputs;
    let (head, head_dim, group) = (shape.head(), shape.head_dim, shape.group());
    let (sequence, kv_head) = (task / shape.kv_heads, task % shape.kv_heads);
    let k = &inputs.k[task * head..(task + 1) * head];
    let keys = transposed_head(k, head_dim);
    let values = transposed_rows(shape.rows(inputs.v, shape.kv_heads, sequence, 0, kv_head), shape.seq, head_dim);
    let mut weights = vec![0.0; QUERIES * KEYS];
    let mut d_weights = vec![0.0; QUERIES * KEYS];
    for member in 0..group {
        let index = task * group + member;
        let q = &inputs.q[index * head..(index + 1) * head];
        let log_sums = &inputs.log_sums[index * shape.seq..(index + 1) * shape.seq];
        let d_q = &mut d_q[member * head..(member + 1) * head];
        for (queries, key_tiles) in shape.tiles() {
            let query_head = kv_head * group + member;
            let (mixed, _) = shape.rows(inputs.mixed, shape.heads, sequence, queries.start, query_head);
            let d_mixed = shape.rows(inputs.d_mixed, shape.heads, sequence, queries.start, query_head);
            let mut along = [0.0_f32; QUERIES];
            vectorized!({
                for (i, along) in along[..queries.len()].iter_mut().enumerate() {
                    let at = i * d_mixed.1..i * d_mixed.1 + head_dim;
                    *along = sum2(&mixed[at.clone()], &d_mixed.0[at], |mixed, d| mixed * d);
                }
            });
            let d_mixed_rows = Strided { values: d_mixed.0, row: d_mixed.1, column: 1 };
            let query_rows = rows_of(q, queries.start, head_dim);
            let d_q = &mut d_q[queries.start * head_dim..queries.end * head_dim];
            for tile in key_tiles {
                let size = [queries.len(), head_dim, tile.len()];
                tile_product(size, query_rows, (&keys[tile.start..], shape.seq), (&mut weights, KEYS), false);
                tile_product(size, d_mixed_rows, (&values[tile.start..], shape.seq), (&mut d_weights, KEYS), false);
                vectorized!({
                    let rows = weights.chunks_mut(KEYS).zip(d_weights.chunks_mut(KEYS)).take(queries.len());
                    for (i, (weights, d_weights)) in rows.enumerate() {
                        let seen = (queries.start + i + 1).saturating_sub(tile.start).min(tile.len());
                        let (log_sum, along) = (log_sums[queries.start + i], along[i]);
                        for (weight, d) in weights[..seen].iter_mut().zip(&mut d_weights[..seen]) {
                            *weight = flushed(exp(*weight * scale - log_sum));
                            *d = flushed(*weight * (*d - along) * scale);
                        }
                        weights[seen..tile.len()].fill(0.0);
                        d_weights[seen..tile.len()].fill(0.0);
                    }
                });
                let by_key = |values| Strided { values, row: 1, column: KEYS };
                let size = [tile.len(), queries.len(), head_dim];
                let (from, to) = (tile.start * head_dim, tile.end * head_dim);
                tile_product(size, by_key(&weights), d_mixed, (&mut d_v[from..to], head_dim), true);
                let q_rows = (&q[queries.start * head_dim..], head_dim);
                tile_product(size, by_key(&d_weights), q_rows, (&mut d_k[from..to], head_dim), true);
                let d_scores = Strided { values: &d_weights, row: KEYS, column: 1 };
                let size = [queries.len(), tile.len(), head_dim];
                tile_product(size, d_scores, (&k[from..], head_dim), (d_q, head_dim), tile.start > 0);
            }
        }
    }
}

fn rows_of(x: &[f32], first: usize, head_dim: usize) -> Strided<'_> {
    Strided { values: &x[first * head_dim..], row: head_dim, column: 1 }
}

fn transposed_head(x: &[f32], head_dim: usize) -> Vec<f32> {
    transposed_rows((x, head_dim), x.len() / head_dim.max(1), head_dim)
}

/// The first `head_dim` columns of `rows` rows, as `[head_dim, rows]`.
fn transposed_rows((x, stride): (&[f32], usize), rows: usize, head_dim: usize) -> Vec<f32> {
    /// Rows read together: a cache line of the result.
    const SIDE: usize = 16;
    let mut out = vec![0.0; rows * head_dim];
    for start in (0..rows).step_by(SIDE) {
        let end = (start + SIDE).min(rows);
        for i in 0..head_dim {
            for row in start..end {
                out[i * rows + row] = x[row * stride + i];
            }
        }
    }
    out
}

/// `[batch, heads, seq, head_dim]` as `[batch * seq, heads * head_dim]`.
fn merged(shape: &Shape, heads: usize, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    each_row(
        &mut out,
        (heads * shape.head_dim).max(1),
        #[inline(always)]
        |row, out| {
            let (sequence, token) = (row / shape.seq, row % shape.seq);
            for (head, out) in out.chunks_exact_mut(shape.head_dim).enumerate() {
                let from = ((sequence * heads + head) * shape.seq + token) * shape.head_dim;
                out.copy_from_slice(&x[from..from + shape.head_dim]);
            }
        },
    );
    out
}
