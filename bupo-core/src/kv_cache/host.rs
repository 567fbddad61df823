//! Keys and values in host memory, written in place. Rows that begin with one prompt share its keys and values.

use bupo_gemm::{Strided, tile_product};
use rayon::prelude::*;

use super::CacheRoom;
use crate::kernels::host::{exp, max, sum, vectorized};

/// Rows of a prompt per task: enough for a product, and enough tasks for many cores.
const ROWS_TOGETHER: usize = 16;

/// One layer's keys and values. Those of new tokens are allocated once for the whole capacity; pages that are never
/// written take no memory.
#[derive(Debug)]
pub(super) struct HostKv {
    kv_heads: usize,
    head_dim: usize,
    /// The prompts that live rows begin with; `None` where the last row of one is gone.
    prompts: Vec<Option<Prompt>>,
    /// The new tokens of each place.
    new: NewTokens,
    /// The live rows, in order.
    rows: Vec<Row>,
    free: Vec<usize>,
}

/// The keys and values of a prompt's tokens.
#[derive(Debug)]
struct Prompt {
    /// `[kv_heads, head_dim, len]`, so that the scores of all tokens are computed together.
    keys: Vec<f32>,
    /// `[kv_heads, len, head_dim]`.
    values: Vec<f32>,
    len: usize,
}

#[derive(Debug)]
struct NewTokens {
    /// `[places, kv_heads, head_dim, slots]`.
    keys: Vec<f32>,
    /// `[places, kv_heads, slots, head_dim]`.
    values: Vec<f32>,
    slots: usize,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    prompt: usize,
    /// The index of its new tokens in memory.
    place: usize,
}

/// Some rows of one prompt, for one KV head.
struct Task {
    kv_head: usize,
    prompt: usize,
    /// Indices of live rows.
    rows: Vec<usize>,
}

impl HostKv {
    /// No rows yet.
    pub(super) fn new(room: CacheRoom, kv_heads: usize, head_dim: usize) -> Self {
        let count = room.rows * kv_heads * room.slots * head_dim;
        Self {
            kv_heads,
            head_dim,
            prompts: Vec::new(),
            new: NewTokens { keys: vec![0.0; count], values: vec![0.0; count], slots: room.slots },
            rows: Vec::new(),
            free: (0..room.rows).rev().collect(),
        }
    }

    pub(super) fn keep(&mut self, rows: &[usize]) {
        let kept: Vec<Row> = rows.iter().map(|row| self.rows[*row]).collect();
        let is_kept = |row: &&Row| kept.iter().any(|kept| kept.place == row.place);
        self.free.extend(self.rows.iter().filter(|row| !is_kept(row)).map(|row| row.place));
        for (index, prompt) in self.prompts.iter_mut().enumerate() {
            if !kept.iter().any(|row| row.prompt == index) {
                *prompt = None;
            }
        }
        self.rows = kept;
    }

    /// Appends rows that begin with the first `len` tokens of sequence `i` of `keys` and `values`
    /// `[sequences, kv_heads, seq, head_dim]`, for each `(i, len)` of `sources`.
    pub(super) fn admit(&mut self, keys: &[f32], values: &[f32], seq: usize, sources: &[(usize, usize)]) {
        let mut admitted: Vec<((usize, usize), usize)> = Vec::new();
        for source in sources {
            let known = admitted.iter().find(|(other, _)| other == source).map(|(_, prompt)| *prompt);
            let prompt = known.unwrap_or_else(|| {
                let prompt = self.prompt(keys, values, seq, *source);
                let index = self.prompts.iter().position(Option::is_none).unwrap_or(self.prompts.len());
                if index == self.prompts.len() {
                    self.prompts.push(None);
                }
                self.prompts[index] = Some(prompt);
                admitted.push((*source, index));
                index
            });
            let place = self.free.pop().unwrap_or_else(|| panic!("a cache has room for the rows it was made for"));
            self.rows.push(Row { prompt, place });
        }
    }

    fn prompt(&self, keys: &[f32], values: &[f32], seq: usize, (source, len): (usize, usize)) -> Prompt {
        let head_dim = self.head_dim;
        let mut prompt = Prompt {
            keys: vec![0.0; self.kv_heads * len * head_dim],
            values: Vec::with_capacity(self.kv_heads * len * head_dim),
            len,
        };
        for (head, to) in prompt.keys.chunks_exact_mut((len * head_dim).max(1)).enumerate() {
            let from = (source * self.kv_heads + head) * seq * head_dim;
            for (slot, key) in keys[from..from + len * head_dim].chunks_exact(head_dim).enumerate() {
                key.iter().enumerate().for_each(|(i, key)| to[i * len + slot] = *key);
            }
            prompt.values.extend(&values[from..from + len * head_dim]);
        }
        prompt
    }

    /// Writes the keys and values of each row's token at its position.
    pub(super) fn write(&mut self, k: &[f32], v: &[f32], positions: &[usize]) {
        let (head_dim, slots) = (self.head_dim, self.new.slots);
        for (index, (row, position)) in self.rows.iter().zip(positions).enumerate() {
            let slot = position - self.prompt_len(row.prompt);
            for head in 0..self.kv_heads {
                let from = (index * self.kv_heads + head) * head_dim;
                let to = (row.place * self.kv_heads + head) * slots * head_dim;
                for i in 0..head_dim {
                    self.new.keys[to + i * slots + slot] = k[from + i];
                }
                let value = to + slot * head_dim;
                self.new.values[value..value + head_dim].copy_from_slice(&v[from..from + head_dim]);
            }
        }
    }

    /// The attention of one query of each row and head, `[rows, heads * head_dim]`.
    pub(super) fn attend(&self, q: &[f32], heads: usize, positions: &[usize], scale: f32) -> Vec<f32> {
        let width = heads / self.kv_heads * self.head_dim;
        let tasks = self.tasks();
        let mixed: Vec<Vec<f32>> =
            tasks.par_iter().with_max_len(1).map(|task| self.attend_task(task, q, heads, positions, scale)).collect();
        let mut out = vec![0.0; positions.len() * heads * self.head_dim];
        for (task, mixed) in tasks.iter().zip(&mixed) {
            for (row, mixed) in task.rows.iter().zip(mixed.chunks_exact(width)) {
                let to = row * heads * self.head_dim + task.kv_head * width;
                out[to..to + width].copy_from_slice(mixed);
            }
        }
        out
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for prompt in 0..self.prompts.len() {
            let rows: Vec<usize> = (0..self.rows.len()).filter(|row| self.rows[*row].prompt == prompt).collect();
            for rows in rows.chunks(ROWS_TOGETHER) {
                tasks.extend((0..self.kv_heads).map(|kv_head| Task { kv_head, prompt, rows: rows.to_vec() }));
            }
        }
        tasks
    }

    /// The mixed values of a task's rows, `[rows, group * head_dim]`.
    fn attend_task(&self, task: &Task, q: &[f32], heads: usize, positions: &[usize], scale: f32) -> Vec<f32> {
        let Some(prompt) = &self.prompts[task.prompt] else { return Vec::new() };
        let (head_dim, group, slots) = (self.head_dim, heads / self.kv_heads, self.new.slots);
        let (len, count) = (prompt.len, task.rows.len() * group);
        // Tokens after the prompt that each row sees, its newest one included.
        let seen: Vec<usize> = task.rows.iter().map(|row| positions[*row] + 1 - len).collect();
        let width = len + seen.iter().copied().max().unwrap_or(0);
        let mut queries = Vec::with_capacity(count * head_dim);
        for row in &task.rows {
            queries.extend(&q[(row * heads + task.kv_head * group) * head_dim..][..group * head_dim]);
        }
        let mut scores = vec![0.0; count * width];
        let prompt_head = task.kv_head * len * head_dim..(task.kv_head + 1) * len * head_dim;
        let by_row = |values, row| Strided { values, row, column: 1 };
        let keys = (&prompt.keys[prompt_head.clone()], len);
        tile_product([count, head_dim, len], by_row(&queries, head_dim), keys, (&mut scores, width), false);
        for (index, (row, seen)) in task.rows.iter().zip(&seen).enumerate() {
            let keys = (&self.new.keys[self.new_head(*row, task.kv_head)..], slots);
            let queries = by_row(&queries[index * group * head_dim..], head_dim);
            let scores = &mut scores[index * group * width + len..];
            tile_product([group, head_dim, *seen], queries, keys, (scores, width), false);
        }
        vectorized!({
            for (index, scores) in scores.chunks_exact_mut(width).enumerate() {
                softmax(&mut scores[..len + seen[index / group]], scale);
            }
        });
        let mut mixed = vec![0.0; count * head_dim];
        let values = (&prompt.values[prompt_head], head_dim);
        tile_product([count, len, head_dim], by_row(&scores, width), values, (&mut mixed, head_dim), false);
        for (index, (row, seen)) in task.rows.iter().zip(&seen).enumerate() {
            let values = (&self.new.values[self.new_head(*row, task.kv_head)..], head_dim);
            let weights = by_row(&scores[index * group * width + len..], width);
            let mixed = &mut mixed[index * group * head_dim..];
            tile_product([group, *seen, head_dim], weights, values, (mixed, head_dim), true);
        }
        mixed
    }

    /// Where the new tokens of a row's head begin.
    fn new_head(&self, row: usize, head: usize) -> usize {
        (self.rows[row].place * self.kv_heads + head) * self.new.slots * self.head_dim
    }

    fn prompt_len(&self, prompt: usize) -> usize {
        self.prompts[prompt].as_ref().map_or(0, |prompt| prompt.len)
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32], scale: f32) {
    let largest = max(scores);
    scores.iter_mut().for_each(|score| *score = exp((*score - largest) * scale));
    let inverse = 1.0 / sum(scores, |weight| weight);
    scores.iter_mut().for_each(|weight| *weight *= inverse);
}
