//! One policy's statistics and divergences from the full policy, for a chunk of states.

use std::ops::Range;

use burn::tensor::{Int, Tensor, backend::Backend};
use rayon::prelude::*;

use crate::kernels::host::{Host, each_row, exp, is_host_f32, ln, max, sum, sum2, sum3, sums, vectorized};
use crate::tokens::token_tensor;

/// Columns per state: log-prob, rank, entropy, and compared with the full policy: agreement, both KL divergences and
/// the Jensen-Shannon divergence.
const COLUMNS: usize = 7;

/// A policy's statistics at each position, and its divergence from the full policy. In nats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyComparison {
    /// Entropies, from 0 to ln V.
    pub entropy: Vec<f32>,
    /// Log-probabilities of the given tokens.
    pub log_probs: Vec<f32>,
    /// Ranks of the given tokens: 1 plus the number of tokens that are more probable.
    pub ranks: Vec<u32>,
    /// Compared with the full policy; `None` if no full policy was given.
    pub divergence: Option<FullPolicyDivergence>,
}

/// A policy compared with the full one at the same positions. In nats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FullPolicyDivergence {
    /// Whether the most probable token is the full policy's.
    pub agrees: Vec<bool>,
    /// KL(policy || full).
    pub kl: Vec<f32>,
    /// KL(full || policy).
    pub reverse_kl: Vec<f32>,
    /// Jensen-Shannon divergence, from 0 to ln 2.
    pub js: Vec<f32>,
}

impl PolicyComparison {
    /// The values at a range of positions.
    pub fn part(&self, places: Range<usize>) -> Self {
        Self {
            entropy: self.entropy[places.clone()].to_vec(),
            log_probs: self.log_probs[places.clone()].to_vec(),
            ranks: self.ranks[places.clone()].to_vec(),
            divergence: self.divergence.as_ref().map(|divergence| FullPolicyDivergence {
                agrees: divergence.agrees[places.clone()].to_vec(),
                kl: divergence.kl[places.clone()].to_vec(),
                reverse_kl: divergence.reverse_kl[places.clone()].to_vec(),
                js: divergence.js[places].to_vec(),
            }),
        }
    }
}

/// The full policy for a chunk of states.
#[allow(clippy::large_enum_variant)] // There is one value at a time.
pub(super) enum FullPolicy<B: Backend> {
    /// Log-probs and probabilities, `[rows, vocab]`.
    Host {
        logs: Host,
        probs: Host,
    },
    Tensors {
        best: Tensor<B, 2, Int>,
        logs: Tensor<B, 2>,
        probs: Tensor<B, 2>,
    },
}

impl<B: Backend> FullPolicy<B> {
    /// From the full policy's logits `[rows, vocab]`.
    pub(super) fn new(logits: Tensor<B, 2>) -> Self {
        if !is_host_f32(&logits) {
            let chunk = Chunk::new(logits);
            let logs = chunk.log_probs();
            return Self::Tensors { best: chunk.shifted.argmax(1), probs: logs.clone().exp(), logs };
        }
        let [_, vocab] = logits.dims();
        let mut logs = Host::take(logits);
        log_softmax(logs.values_mut(), vocab);
        let mut probs = logs.clone();
        each_exp(probs.values_mut(), vocab);
        Self::Host { logs, probs }
    }
}

fn log_softmax(logits: &mut [f32], vocab: usize) {
    each_row(
        logits,
        vocab,
        #[inline(always)]
        |_, row| {
            let largest = max(row);
            let log_sum = largest + sum(row, |x| exp(x - largest)).ln();
            row.iter_mut().for_each(|x| *x -= log_sum);
        },
    );
}

fn each_exp(values: &mut [f32], width: usize) {
    each_row(
        values,
        width,
        #[inline(always)]
        |_, row| row.iter_mut().for_each(|x| *x = exp(*x)),
    );
}

/// Appends the statistics of a policy with these logits `[rows, vocab]` at the targets.
pub(super) fn compare_chunk<B: Backend>(
    logits: Tensor<B, 2>,
    full: Option<&FullPolicy<B>>,
    targets: &[u32],
    compared: &mut PolicyComparison,
) {
    if let (true, Some(FullPolicy::Host { .. }) | None) = (is_host_f32(&logits), full) {
        let [_, vocab] = logits.dims();
        let logits = Host::take(logits);
        let full = full.map(|full| match full {
            FullPolicy::Host { logs, probs } => (logs.values(), probs.values()),
            FullPolicy::Tensors { .. } => unreachable!("both policies are in host memory"),
        });
        compare_rows(logits.values(), vocab, full, targets).iter().for_each(|row| compared.push(row));
    } else {
        let columns = compare_tensors(logits, full, targets);
        let values: Vec<f32> = columns.into_data().iter::<f32>().collect();
        let width = values.len() / targets.len().max(1);
        for row in values.chunks_exact(width) {
            let mut whole = [0.0; COLUMNS];
            whole[..width].copy_from_slice(row);
            compared.push(&whole);
        }
    }
}

impl PolicyComparison {
    fn push(&mut self, row: &[f32; COLUMNS]) {
        self.log_probs.push(row[0]);
        self.ranks.push(row[1] as u32);
        self.entropy.push(row[2]);
        if let Some(divergence) = &mut self.divergence {
            divergence.agrees.push(row[3] > 0.5);
            divergence.kl.push(row[4]);
            divergence.reverse_kl.push(row[5]);
            divergence.js.push(row[6]);
        }
    }
}

/// The statistics of each row of logits `[rows, vocab]`, beside the full policy's log-probs and probabilities.
fn compare_rows(logits: &[f32], vocab: usize, full: Option<(&[f32], &[f32])>, targets: &[u32]) -> Vec<[f32; COLUMNS]> {
    let rows = logits.par_chunks_exact(vocab).zip(targets).enumerate().map(|(row, (x, target))| {
        let places = row * vocab..(row + 1) * vocab;
        let full = full.map(|(logs, probs)| (&logs[places.clone()], &probs[places.clone()]));
        vectorized!(compare_row(x, full, *target as usize))
    });
    rows.collect()
}

#[inline(always)]
fn compare_row(x: &[f32], full: Option<(&[f32], &[f32])>, target: usize) -> [f32; COLUMNS] {
    let largest = max(x);
    let (sum_exp, weighted) = sums(x, |x| {
        let weight = exp(x - largest);
        (weight, weight * (x - largest))
    });
    let log_sum = largest + sum_exp.ln();
    let entropy = sum_exp.ln() - weighted / sum_exp;
    let rank = 1 + x.iter().filter(|other| **other > x[target]).count();
    let entropy = if entropy < 0.0 { 0.0 } else { entropy };
    let mut row = [x[target] - largest - sum_exp.ln(), rank as f32, entropy, 0.0, 0.0, 0.0, 0.0];
    let Some((logs, probs)) = full else { return row };
    row[3] = f32::from(u8::from(best(x, largest) == best(logs, max(logs))));
    let kl = sum2(x, logs, |x, log| exp(x - log_sum) * (x - log_sum - log));
    let reverse_kl = sum3(x, logs, probs, |x, log, prob| prob * (log - (x - log_sum)));
    let js = sum3(x, logs, probs, |x, full_log, full_prob| {
        let log = x - log_sum;
        let prob = exp(log);
        // If both probabilities are 0, the mean's logarithm stays finite and is multiplied by 0.
        let mean = (prob + full_prob) / 2.0;
        let mean_log = ln(if mean > f32::MIN_POSITIVE { mean } else { f32::MIN_POSITIVE });
        prob * (log - mean_log) + full_prob * (full_log - mean_log)
    });
    // A NaN stays one.
    let at_least_0 = |value: f32| if value < 0.0 { 0.0 } else { value };
    row[4] = at_least_0(kl);
    row[5] = at_least_0(reverse_kl);
    row[6] = (js / 2.0).clamp(0.0, std::f32::consts::LN_2);
    row
}

fn best(values: &[f32], largest: f32) -> usize {
    values.iter().position(|value| *value == largest).unwrap_or_default()
}

fn compare_tensors<B: Backend>(logits: Tensor<B, 2>, full: Option<&FullPolicy<B>>, targets: &[u32]) -> Tensor<B, 2> {
    let index = token_tensor(targets, &logits.device()).unsqueeze_dim(1);
    let chunk = Chunk::new(logits);
    let target = chunk.shifted.clone().gather(1, index);
    let above = chunk.shifted.clone().greater(target.clone().expand(chunk.shifted.dims()));
    let rank = above.float().sum_dim(1) + 1.0;
    let mut columns = vec![target - chunk.log_sum.clone(), rank, chunk.entropy()];
    if let Some(FullPolicy::Tensors { best, logs: full_logs, probs: full_probs }) = full {
        let agrees = chunk.shifted.clone().argmax(1).equal(best.clone()).float();
        let logs = chunk.log_probs();
        let probs = logs.clone().exp();
        let mean_logs = ((probs.clone() + full_probs.clone()) / 2.0).clamp_min(f32::MIN_POSITIVE).log();
        let expect = |probs: &Tensor<B, 2>, values: Tensor<B, 2>| (probs.clone() * values).sum_dim(1);
        let js = expect(&probs, logs.clone() - mean_logs.clone()) + expect(full_probs, full_logs.clone() - mean_logs);
        columns.push(agrees);
        columns.push(expect(&probs, logs.clone() - full_logs.clone()).clamp_min(0.0));
        columns.push(expect(full_probs, full_logs.clone() - logs).clamp_min(0.0));
        columns.push((js / 2.0).clamp(0.0, std::f32::consts::LN_2));
    }
    Tensor::cat(columns, 1)
}

/// The terms of the softmax of a chunk's logits.
struct Chunk<B: Backend> {
    /// `logits - max`, `[rows, vocab]`.
    shifted: Tensor<B, 2>,
    /// `exp(shifted)`.
    exp: Tensor<B, 2>,
    /// Row sums of `exp`, `[rows, 1]`.
    sum: Tensor<B, 2>,
    /// The logarithm of `sum`.
    log_sum: Tensor<B, 2>,
}

impl<B: Backend> Chunk<B> {
    fn new(logits: Tensor<B, 2>) -> Self {
        let shifted = logits.clone() - logits.max_dim(1);
        let exp = shifted.clone().exp();
        let sum = exp.clone().sum_dim(1);
        let log_sum = sum.clone().log();
        Self { shifted, exp, sum, log_sum }
    }

    /// Log-probs of every token, `[rows, vocab]`.
    fn log_probs(&self) -> Tensor<B, 2> {
        self.shifted.clone() - self.log_sum.clone()
    }

    /// `H = log sum - E[shifted]`, clamped at 0 where rounding would make it negative, `[rows, 1]`.
    fn entropy(&self) -> Tensor<B, 2> {
        let mean = (self.exp.clone() * self.shifted.clone()).sum_dim(1) / self.sum.clone();
        (self.log_sum.clone() - mean).clamp_min(0.0)
    }
}
