//! A product of packed matrices, cut into blocks that tasks compute.

use rayon::prelude::*;

use super::tiles::{DEPTH, Packed, SIDE, Tile};
use super::unit::Bf16Unit;
use crate::columns::SharedMatrix;

/// Rows and columns of a block: two tiles of either matrix, which make four.
pub(super) const BLOCK: usize = 2 * SIDE;
/// Rows per task: a core's cache holds their tiles, and they outweigh what a task does once.
const TASK_ROWS: usize = 16 * BLOCK;

/// Sums of a block.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; BLOCK]; BLOCK]);

/// The tiles that a block is computed from: two panels of each matrix, of equal length, the same twice where there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) left: [&'a [Tile]; 2],
    pub(super) right: [&'a [Tile]; 2],
    /// Rows of the left panels, at most 32.
    pub(super) rows: usize,
}

/// The right matrix of a product.
#[derive(Debug, Clone, Copy)]
pub(super) enum Right<'a> {
    /// As packed.
    Packed(&'a Packed),
    /// The transpose of what is packed.
    Transposed(&'a Packed),
}

impl Right<'_> {
    fn columns(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.size,
            Self::Transposed(packed) => packed.inner,
        }
    }

    fn inner(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.inner,
            Self::Transposed(packed) => packed.size,
        }
    }
}

/// The products of one left matrix with several right ones, row-major. All cores share the work.
pub(super) fn products(unit: Bf16Unit, left: &Packed, rights: &[Right<'_>]) -> Vec<Vec<f32>> {
    let mut results: Vec<Vec<f32>> = rights.iter().map(|right| vec![0.0; left.size * right.columns()]).collect();
    let mut tasks = Vec::new();
    for (right, result) in rights.iter().zip(&mut results) {
        assert_eq!(left.inner, right.inner(), "as many elements of a sum");
        let columns = right.columns();
        let result = std::sync::Arc::new(SharedMatrix::new(result, columns));
        for row in (0..left.size).step_by(TASK_ROWS) {
            for column in (0..columns).step_by(BLOCK) {
                tasks.push(Task { unit, left, right: *right, row, column, columns, result: result.clone() });
            }
        }
    }
    tasks.into_par_iter().with_max_len(1).for_each(|task| task.run());
    results
}

/// Some blocks of 32 columns.
struct Task<'a> {
    unit: Bf16Unit,
    left: &'a Packed,
    right: Right<'a>,
    row: usize,
    column: usize,
    columns: usize,
    result: std::sync::Arc<SharedMatrix<'a>>,
}

impl Task<'_> {
    fn run(&self) {
        match self.right {
            Right::Packed(packed) => {
                let panel = self.column / SIDE;
                self.blocks([packed.panel(panel), packed.panel(panel + 1)]);
            }
            Right::Transposed(packed) => {
                let [first, second] = packed.transposed_panels(self.column / DEPTH);
                self.blocks([&first, &second]);
            }
        }
    }

    fn blocks(&self, right: [&[Tile]; 2]) {
        let end = (self.row + TASK_ROWS).min(self.left.size);
        let columns = self.column..(self.column + BLOCK).min(self.columns);
        let mut sums = Sums([[0.0; BLOCK]; BLOCK]);
        let started = self.unit.start();
        for row in (self.row..end).step_by(BLOCK) {
            let rows = (end - row).min(BLOCK);
            let left = [0, 1].map(|n| self.left.panel(row / SIDE + n));
            started.block(Panels { left, right, rows }, &mut sums);
            for (i, sums) in sums.0[..rows].iter().enumerate() {
                // SAFETY: each task has its own rows and columns.
                unsafe { self.result.write(row + i, columns.clone(), sums) };
            }
        }
    }
}
