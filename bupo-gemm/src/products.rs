//! Products of rows with weights that are stored as a checkpoint stores them.

use std::ops::Range;

use half::bf16;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::columns::SharedMatrix;
use crate::dot::{Stored, WEIGHT_ROWS, dot_block};
use crate::units::arch;

/// Rows of weights per task with few rows of `x`, and with many, where a task should reuse each row of `x` more often.
const TASK_FEW: usize = 16;
const TASK_MANY: usize = 64;
/// Few rows of `x`: they stay in a core's cache while weights pass.
const FEW: usize = 64;
/// Numbers of a row that are multiplied before those after them: of the rows that are multiplied together, as many stay in the
/// nearest cache. Sums depend on it.
const DEPTH: usize = 1024;

/// A weight matrix `[out, in]`, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// In f32.
    F32(&'a [f32]),
    /// In bf16, widened to f32 when it is multiplied.
    Bf16(&'a [bf16]),
}

impl Weights<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }
}

/// `x w^T` for each of `weights`, with `x` `[rows, inner]` row-major and weights `[out, inner]`; the results are
/// `[rows, out]`. All cores share the work.
///
/// # Panics
/// If the lengths do not fit, or `inner` is 0.
pub fn products(x: &[f32], inner: usize, weights: &[Weights<'_>]) -> Vec<Vec<f32>> {
    let rows = x.len() / inner;
    assert_eq!(rows * inner, x.len(), "whole rows");
    let mut results: Vec<Vec<f32>> = weights.iter().map(|weights| vec![0.0; rows * (weights.len() / inner)]).collect();
    let mut tasks = Vec::new();
    let task_rows = if rows <= FEW { TASK_FEW } else { TASK_MANY };
    for (weights, result) in weights.iter().zip(&mut results) {
        let out = weights.len() / inner;
        assert_eq!(out * inner, weights.len(), "whole rows of weights");
        let result = std::sync::Arc::new(SharedMatrix::new(result, out));
        for start in (0..out).step_by(task_rows) {
            let columns = start..(start + task_rows).min(out);
            tasks.push(Task { x, inner, rows, weights: *weights, columns, result: result.clone() });
        }
    }
    let arch = arch();
    tasks.into_par_iter().with_max_len(1).for_each(|task| arch.dispatch(task));
    results
}

/// Some columns of a result.
struct Task<'a> {
    x: &'a [f32],
    inner: usize,
    rows: usize,
    weights: Weights<'a>,
    columns: Range<usize>,
    result: std::sync::Arc<SharedMatrix<'a>>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.weights {
            Weights::F32(weights) => self.run(simd, weights),
            Weights::Bf16(weights) => self.run(simd, weights),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, W: Stored>(&self, simd: S, weights: &[W]) {
        // As many sums as fit into the registers, beside the weights.
        let most = if S::REGISTER_COUNT >= 32 { 6 } else { 3 };
        for start in (0..self.inner).step_by(DEPTH) {
            let depth = start..(start + DEPTH).min(self.inner);
            let mut row = 0;
            while row < self.rows {
                let count = (self.rows - row).min(most);
                match count {
                    1 => self.block::<S, W, 1>(simd, weights, row, &depth),
                    2 => self.block::<S, W, 2>(simd, weights, row, &depth),
                    3 => self.block::<S, W, 3>(simd, weights, row, &depth),
                    4 => self.block::<S, W, 4>(simd, weights, row, &depth),
                    5 => self.block::<S, W, 5>(simd, weights, row, &depth),
                    _ => self.block::<S, W, 6>(simd, weights, row, &depth),
                }
                row += count;
            }
        }
    }

    /// `M` rows of `x` with the weights of the task, over a part of their length.
    #[inline(always)]
    fn block<S: Simd, W: Stored, const M: usize>(&self, simd: S, weights: &[W], row: usize, depth: &Range<usize>) {
        let columns = &self.columns;
        let x = &self.x[row * self.inner..(row + M) * self.inner];
        // Written at the end, so that a cache line of the result is written once.
        let mut block = [[0.0; TASK_MANY]; M];
        for (group, column) in columns.clone().step_by(WEIGHT_ROWS).enumerate() {
            // The last row is repeated where there are fewer than four.
            let rows = [0, 1, 2, 3].map(|n| {
                let at = (column + n).min(columns.end - 1) * self.inner;
                weights[at..at + self.inner][depth.clone()].as_ptr()
            });
            // SAFETY: `x` has `M` rows of `inner` numbers, and from each pointer on there are as many as `depth` has.
            let dots = unsafe { dot_block::<S, W, M>(simd, x[depth.start..].as_ptr(), self.inner, rows, depth.len()) };
            for (block, dots) in block.iter_mut().zip(dots) {
                block[group * WEIGHT_ROWS..][..WEIGHT_ROWS].copy_from_slice(&dots);
            }
        }
        for (m, block) in block.iter().enumerate() {
            // SAFETY: each task has its own columns.
            unsafe {
                match depth.start {
                    0 => self.result.write(row + m, columns.clone(), block),
                    _ => self.result.add(row + m, columns.clone(), block),
                }
            }
        }
    }
}
