//! Matrices rounded to bf16 and packed in tiles, as the units read them.
//!
//! A product sums over pairs: a tile of its left matrix has 16 rows of 16 pairs along the row, a tile of its right matrix 16 rows
//! of pairs, of two elements of a column, for 16 columns. So one is the transpose of the other, pair by pair, and either is made of
//! a row-major matrix or of its transpose.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::units::arch;

/// Rows of a tile, and pairs in a row.
pub(super) const SIDE: usize = 16;
/// Elements that a tile has along the sum.
pub(super) const DEPTH: usize = 2 * SIDE;

/// A kibibyte: 16 rows of 16 pairs of bf16, the first of a pair in the low half.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Tile(pub(super) [[u32; SIDE]; SIDE]);

/// A row-major matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) width: usize,
}

/// The left or the right matrix of a product.
#[derive(Debug)]
pub(super) struct Packed {
    /// The rows of a left matrix, the columns of a right one.
    pub(super) size: usize,
    /// Elements of a sum.
    pub(super) inner: usize,
    /// Panels of 16 rows or columns, each with the tiles along the sum. What is outside the matrix is 0.
    tiles: Vec<Tile>,
}

impl Packed {
    /// A left matrix.
    pub(super) fn left(matrix: Matrix<'_>) -> Self {
        Self::new(matrix, Pairs::AlongRows, false)
    }

    /// The transpose of `matrix` as a left matrix.
    pub(super) fn left_transposed(matrix: Matrix<'_>) -> Self {
        Self::new(matrix, Pairs::AlongColumns, true)
    }

    /// A right matrix.
    pub(super) fn right(matrix: Matrix<'_>) -> Self {
        Self::new(matrix, Pairs::AlongColumns, false)
    }

    /// The transpose of `matrix` as a right matrix.
    pub(super) fn right_transposed(matrix: Matrix<'_>) -> Self {
        Self::new(matrix, Pairs::AlongRows, true)
    }

    fn new(matrix: Matrix<'_>, pairs: Pairs, transpose: bool) -> Self {
        let [size, inner] = match pairs {
            Pairs::AlongRows => [matrix.rows, matrix.width],
            Pairs::AlongColumns => [matrix.width, matrix.rows],
        };
        let depth = inner.div_ceil(DEPTH);
        let mut tiles = vec![Tile::ZERO; size.div_ceil(SIDE) * depth];
        let arch = arch();
        tiles.par_chunks_mut(depth.max(1)).enumerate().for_each(|(panel, tiles)| {
            arch.dispatch(PackPanel { matrix, pairs, transpose, panel, tiles });
        });
        Self { size, inner, tiles }
    }

    /// The tiles along the sum of a panel; of the last one if there are fewer.
    pub(super) fn panel(&self, panel: usize) -> &[Tile] {
        let depth = self.inner.div_ceil(DEPTH);
        &self.tiles[panel.min(self.size.div_ceil(SIDE) - 1) * depth..][..depth]
    }

    /// The two panels from column `32 * pair` on of the transposed right matrix, whose columns are the elements of a sum of this
    /// one.
    pub(super) fn transposed_panels(&self, pair: usize) -> [Vec<Tile>; 2] {
        let mut panels = [0, 1].map(|_| vec![Tile::ZERO; self.size.div_ceil(DEPTH)]);
        let [first, second] = &mut panels;
        arch().dispatch(TransposePanels { packed: self, pair, first, second });
        panels
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
    }
}

/// The elements of a row-major matrix that are a pair.
#[derive(Debug, Clone, Copy)]
enum Pairs {
    AlongRows,
    AlongColumns,
}

/// Fills a panel.
struct PackPanel<'a> {
    matrix: Matrix<'a>,
    pairs: Pairs,
    transpose: bool,
    panel: usize,
    tiles: &'a mut [Tile],
}

impl WithSimd for PackPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut straight = Tile::ZERO;
        for (depth, tile) in self.tiles.iter_mut().enumerate() {
            let (size, depth) = (self.panel * SIDE, depth * DEPTH);
            let to = if self.transpose { &mut straight } else { &mut *tile };
            match self.pairs {
                Pairs::AlongRows => self.matrix.pairs_along_rows(size, depth, to),
                Pairs::AlongColumns => self.matrix.pairs_along_columns(depth, size, to),
            }
            if self.transpose {
                straight.transpose_to(tile);
            }
        }
    }
}

/// Fills two panels of the transpose of a right matrix.
struct TransposePanels<'a> {
    packed: &'a Packed,
    pair: usize,
    first: &'a mut [Tile],
    second: &'a mut [Tile],
}

impl WithSimd for TransposePanels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut halves = [Tile::ZERO; 2];
        for (depth, (first, second)) in self.first.iter_mut().zip(self.second).enumerate() {
            for (n, half) in halves.iter_mut().enumerate() {
                let panel = 2 * depth + n;
                if panel * SIDE < self.packed.size {
                    self.packed.panel(panel)[self.pair].transpose_to(half);
                } else {
                    *half = Tile::ZERO;
                }
            }
            pair_along_columns(&halves, first, second);
        }
    }
}

impl Matrix<'_> {
    #[inline(always)]
    fn pairs_along_rows(&self, row: usize, column: usize, tile: &mut Tile) {
        for (i, to) in tile.0.iter_mut().enumerate() {
            // Halves that lie side by side are a pair.
            let mut halves = [0; DEPTH];
            for (half, value) in halves.iter_mut().zip(self.part::<DEPTH>(row + i, column)) {
                *half = (rounded(value) >> 16) as u16;
            }
            *to = pulp::bytemuck::cast(halves);
        }
    }

    #[inline(always)]
    fn pairs_along_columns(&self, row: usize, column: usize, tile: &mut Tile) {
        for (i, to) in tile.0.iter_mut().enumerate() {
            let first = self.part::<SIDE>(row + 2 * i, column);
            let second = self.part::<SIDE>(row + 2 * i + 1, column);
            for (j, to) in to.iter_mut().enumerate() {
                *to = rounded(first[j]) >> 16 | rounded(second[j]);
            }
        }
    }

    /// Elements of a row, 0 outside the matrix.
    #[inline(always)]
    fn part<const N: usize>(&self, row: usize, column: usize) -> [f32; N] {
        if row >= self.rows {
            return [0.0; N];
        }
        let from = &self.values[row * self.width + column..(row + 1) * self.width];
        if let Some(part) = from.first_chunk() {
            return *part;
        }
        let mut part = [0.0; N];
        part[..from.len()].copy_from_slice(from);
        part
    }
}

impl Tile {
    const ZERO: Self = Self([[0; SIDE]; SIDE]);

    /// By four shuffles.
    #[inline(always)]
    fn transpose_to(&self, to: &mut Self) {
        let mut other = Self::ZERO;
        self.shuffle(&mut other);
        other.shuffle(to);
        to.shuffle(&mut other);
        other.shuffle(to);
    }

    /// Interleaves each row of the upper half with one of the lower.
    #[inline(always)]
    fn shuffle(&self, to: &mut Self) {
        for i in 0..SIDE / 2 {
            [to.0[2 * i], to.0[2 * i + 1]] = interleaved(&self.0[i], &self.0[i + SIDE / 2]);
        }
    }
}

/// The first halves of `a` and `b` in turn, and the second.
#[inline(always)]
fn interleaved(a: &[u32; SIDE], b: &[u32; SIDE]) -> [[u32; SIDE]; 2] {
    // Compilers do not find the two shuffles that this is.
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions.
        return unsafe { super::avx512::interleaved(a, b) };
    }
    [0, SIDE / 2].map(|from| std::array::from_fn(|i| if i % 2 == 0 { a[from + i / 2] } else { b[from + i / 2] }))
}

/// Makes pairs along the columns of 32 rows of 32 numbers, which are pairs along the rows: of the first 16 columns, and of the
/// others.
#[inline(always)]
fn pair_along_columns(halves: &[Tile; 2], first: &mut Tile, second: &mut Tile) {
    for i in 0..SIDE {
        let rows = &halves[i / (SIDE / 2)].0;
        let (upper, lower) = (&rows[2 * i % SIDE], &rows[(2 * i + 1) % SIDE]);
        let (mut even, mut odd) = ([0; SIDE], [0; SIDE]);
        for j in 0..SIDE {
            even[j] = upper[j] & 0xffff | lower[j] << 16;
            odd[j] = upper[j] >> 16 | lower[j] & 0xffff_0000;
        }
        [first.0[i], second.0[i]] = interleaved(&even, &odd);
    }
}

/// To the nearest bf16, ties to even, in the upper half. (`half` converts one number at a time, with a branch.)
#[inline(always)]
fn rounded(x: f32) -> u32 {
    const UPPER: u32 = 0xffff_0000;
    const QUIET: u32 = 0x0040_0000;
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | QUIET } else { nearest }) & UPPER
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn numbers_are_rounded_as_by_half() {
        let some = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        let ties = [0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff, 0x8000_0001, 0x7f80_0001, 0xffff_ffff].map(f32::from_bits);
        for x in some.chain(ties).chain([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]) {
            assert_eq!(rounded(x) >> 16, u32::from(bf16::from_f32(x).to_bits()), "{x}");
        }
    }

    #[test]
    fn tiles_hold_the_matrix_and_zeros() {
        let (rows, width) = (37, 45);
        let values: Vec<f32> = (0..rows * width).map(|i| i as f32 % 251.0 + 1.0).collect();
        let matrix = Matrix { values: &values, rows, width };
        let at = |row: usize, column: usize| {
            if row < rows && column < width { values[row * width + column] } else { 0.0 }
        };
        let half = |pair: u32, n: usize| f32::from_bits(if n == 0 { pair << 16 } else { pair & 0xffff_0000 });
        let check = |packed: &Packed, what: &str, element: &dyn Fn(usize, usize, usize, usize) -> f32| {
            for panel in 0..packed.size.div_ceil(SIDE) {
                for (depth, tile) in packed.panel(panel).iter().enumerate() {
                    for (i, j, n) in (0..512).map(|e| (e / 32, e / 2 % 16, e % 2)) {
                        assert_eq!(half(tile.0[i][j], n), element(panel * SIDE, depth * DEPTH, i, 2 * j + n), "{what}");
                    }
                }
            }
        };
        // Of a right tile the second half of a column index is which of a pair it is.
        check(&Packed::left(matrix), "left", &|panel, depth, i, k| at(panel + i, depth + k));
        check(&Packed::left_transposed(matrix), "left, transposed", &|panel, depth, i, k| at(depth + k, panel + i));
        check(&Packed::right(matrix), "right", &|panel, depth, i, jn| at(depth + 2 * i + jn % 2, panel + jn / 2));
        let right = Packed::right_transposed(matrix);
        check(&right, "right, transposed", &|panel, depth, i, jn| at(panel + jn / 2, depth + 2 * i + jn % 2));

        let expected = Packed::right(matrix);
        for pair in 0..width.div_ceil(DEPTH) {
            let panels = right.transposed_panels(pair);
            for (n, panel) in panels.iter().enumerate().filter(|(n, _)| (2 * pair + n) * SIDE < width) {
                assert!(panel == expected.panel(2 * pair + n), "{pair}, {n}");
            }
        }
    }
}
