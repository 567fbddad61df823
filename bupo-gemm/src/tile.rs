//! Products of small strided matrices, on one core.

use pulp::{Arch, Simd, WithSimd};

/// A matrix whose element `(i, k)` is `values[i * row + k * column]`.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// The elements.
    pub values: &'a [f32],
    /// The distance between rows.
    pub row: usize,
    /// The distance between columns.
    pub column: usize,
}

/// `c = a b`, or `c += a b` with `add`, on one core. `size` is `[rows, inner, columns]` of `a` `[rows, inner]` and `b`
/// `[inner, columns]`; rows of `b` and `c` are `b_row` and `c_row` numbers apart.
///
/// # Panics
/// If a matrix does not have as many elements.
pub fn tile_product(
    size: [usize; 3],
    a: Strided<'_>,
    (b, b_row): (&[f32], usize),
    (c, c_row): (&mut [f32], usize),
    add: bool,
) {
    let [rows, inner, columns] = size;
    if rows == 0 || columns == 0 {
        return;
    }
    if inner > 0 {
        assert!((rows - 1) * a.row + (inner - 1) * a.column < a.values.len(), "a has as many elements");
        assert!((inner - 1) * b_row + columns <= b.len(), "b has as many elements");
    }
    assert!((rows - 1) * c_row + columns <= c.len() && columns <= c_row, "c has as many elements");
    Arch::new().dispatch(Tile { size, a, b, b_row, c, c_row, add });
}

struct Tile<'a> {
    size: [usize; 3],
    a: Strided<'a>,
    b: &'a [f32],
    b_row: usize,
    c: &'a mut [f32],
    c_row: usize,
    add: bool,
}

/// Where a block begins in each matrix.
struct Block {
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    columns: usize,
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let [rows, _, columns] = self.size;
        let wide = 2 * S::F32_LANES;
        let mut column = 0;
        while column < columns {
            let width = (columns - column).min(wide);
            let mut row = 0;
            while row < rows {
                row += self.rows_from(simd, row, column, width, rows - row);
            }
            column += width;
        }
    }
}

impl Tile<'_> {
    /// Computes as many of the `left` rows as fit into the registers, and returns how many.
    #[inline(always)]
    fn rows_from<S: Simd>(&mut self, simd: S, row: usize, column: usize, columns: usize, left: usize) -> usize {
        let block = Block {
            a: self.a.values[row * self.a.row..].as_ptr(),
            b: self.b[column..].as_ptr(),
            c: self.c[row * self.c_row + column..].as_mut_ptr(),
            columns,
        };
        // SAFETY: `tile_product` checked that all rows and columns are inside; a block is a part of them.
        unsafe {
            if S::REGISTER_COUNT >= 32 && left >= 14 {
                self.block::<S, 14>(simd, &block);
                14
            } else if S::REGISTER_COUNT >= 32 && left >= 8 {
                self.block::<S, 8>(simd, &block);
                8
            } else if left >= 6 {
                self.block::<S, 6>(simd, &block);
                6
            } else if left >= 3 {
                self.block::<S, 3>(simd, &block);
                3
            } else if left == 2 {
                self.block::<S, 2>(simd, &block);
                2
            } else {
                self.block::<S, 1>(simd, &block);
                1
            }
        }
    }

    /// # Safety
    /// `M` rows of `a` and `c`, and the block's columns of `b` and `c`, are inside.
    #[inline(always)]
    unsafe fn block<S: Simd, const M: usize>(&mut self, simd: S, block: &Block) {
        let lanes = S::F32_LANES;
        // SAFETY: as promised by the caller.
        unsafe {
            if block.columns == 2 * lanes {
                self.sums::<S, M, true>(simd, block);
            } else {
                self.sums::<S, M, false>(simd, block);
            }
        }
    }

    /// # Safety
    /// As [`Self::block`]; `FULL` if the block has the columns of two vectors.
    #[inline(always)]
    unsafe fn sums<S: Simd, const M: usize, const FULL: bool>(&mut self, simd: S, block: &Block) {
        let lanes = S::F32_LANES;
        let [_, inner, _] = self.size;
        let first = block.columns.min(lanes) as u32;
        let second = block.columns.saturating_sub(lanes) as u32;
        let masks = [simd.mask_between_m32s(0, first), simd.mask_between_m32s(0, second)];
        let mut sums = [[simd.splat_f32s(0.0); 2]; M];
        // SAFETY: with `FULL` two whole vectors are inside, else those lanes of each that the masks let through.
        unsafe {
            for k in 0..inner {
                let from = block.b.add(k * self.b_row);
                let b = if FULL {
                    [from.cast::<S::f32s>().read_unaligned(), from.add(lanes).cast::<S::f32s>().read_unaligned()]
                } else {
                    [
                        simd.mask_load_ptr_f32s(masks[0], from),
                        simd.mask_load_ptr_f32s(masks[1], from.wrapping_add(lanes)),
                    ]
                };
                for (m, sums) in sums.iter_mut().enumerate() {
                    let a = simd.splat_f32s(*block.a.add(m * self.a.row + k * self.a.column));
                    sums[0] = simd.mul_add_f32s(a, b[0], sums[0]);
                    sums[1] = simd.mul_add_f32s(a, b[1], sums[1]);
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    let to = block.c.add(m * self.c_row).wrapping_add(v * lanes);
                    if FULL {
                        let to = to.cast::<S::f32s>();
                        to.write_unaligned(if self.add { simd.add_f32s(to.read_unaligned(), sum) } else { sum });
                    } else {
                        let before =
                            if self.add { simd.mask_load_ptr_f32s(masks[v], to) } else { simd.splat_f32s(0.0) };
                        simd.mask_store_ptr_f32s(masks[v], to, simd.add_f32s(before, sum));
                    }
                }
            }
        }
    }
}
