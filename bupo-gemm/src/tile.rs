//! Products of small strided matrices, on one core.

use pulp::{Simd, WithSimd};

use crate::units::arch;

/// Rows whose sums fit into 32 vector registers, two vectors each, beside what they are computed from.
const MOST_ROWS: usize = 14;

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

impl Strided<'_> {
    /// Whether it has elements for so many rows and columns, both at least 1.
    pub(crate) fn has(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.values.len()
    }
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
        assert!(a.has(rows, inner), "a has as many elements");
        assert!((inner - 1) * b_row + columns <= b.len(), "b has as many elements");
    }
    assert!((rows - 1) * c_row + columns <= c.len() && columns <= c_row, "c has as many elements");
    let (a, a_strides) = (a.values.as_ptr(), [a.row, a.column]);
    arch().dispatch(Checked(Tile { size, a, a_strides, b: b.as_ptr(), b_row, c: c.as_mut_ptr(), c_row, add }));
}

/// A tile whose elements are all inside their matrices.
struct Checked(Tile);

impl WithSimd for Checked {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // SAFETY: `tile_product` checked the sizes of borrowed slices.
        unsafe { self.0.run(simd) }
    }
}

/// `c = a b` or `c += a b` of matrices somewhere in memory.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Rows, inner, columns.
    pub(crate) size: [usize; 3],
    pub(crate) a: *const f32,
    /// The distances between rows and between columns of `a`.
    pub(crate) a_strides: [usize; 2],
    pub(crate) b: *const f32,
    pub(crate) b_row: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    pub(crate) add: bool,
}

impl Tile {
    /// # Safety
    /// All rows and columns of the three matrices are valid, and no one else accesses those of `c`.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(self, simd: S) {
        let [rows, inner, columns] = self.size;
        let wide = 2 * S::F32_LANES;
        for column in (0..columns).step_by(wide) {
            let width = (columns - column).min(wide);
            let mut row = 0;
            while row < rows {
                // SAFETY: the row and the column are inside.
                let part = unsafe {
                    Self {
                        size: [rows - row, inner, width],
                        a: self.a.add(row * self.a_strides[0]),
                        b: self.b.add(column),
                        c: self.c.add(row * self.c_row + column),
                        ..self
                    }
                };
                // SAFETY: a part of this tile.
                row += unsafe { part.first_rows(simd) };
            }
        }
    }

    /// Computes as many rows as fit into the registers, and returns how many.
    ///
    /// # Safety
    /// As [`Self::run`]; there is a row, and not more columns than in two vectors.
    #[inline(always)]
    unsafe fn first_rows<S: Simd>(&self, simd: S) -> usize {
        let [rows, ..] = self.size;
        let many = S::REGISTER_COUNT >= 32;
        // SAFETY: as promised by the caller; there are as many rows.
        unsafe {
            match rows {
                MOST_ROWS.. if many => self.block::<S, MOST_ROWS>(simd),
                8.. if many => self.block::<S, 8>(simd),
                6.. => self.block::<S, 6>(simd),
                3.. => self.block::<S, 3>(simd),
                2 => self.block::<S, 2>(simd),
                _ => self.block::<S, 1>(simd),
            }
        }
    }

    /// # Safety
    /// As [`Self::first_rows`], with `M` rows.
    #[inline(always)]
    unsafe fn block<S: Simd, const M: usize>(&self, simd: S) -> usize {
        // SAFETY: as promised by the caller.
        unsafe {
            if self.size[2] == 2 * S::F32_LANES {
                self.sums::<S, M, true>(simd);
            } else {
                self.sums::<S, M, false>(simd);
            }
        }
        M
    }

    /// # Safety
    /// As [`Self::block`]; with `FULL` there are the columns of two vectors.
    #[inline(always)]
    unsafe fn sums<S: Simd, const M: usize, const FULL: bool>(&self, simd: S) {
        let lanes = S::F32_LANES;
        let [_, inner, columns] = self.size;
        let [a_row, a_column] = self.a_strides;
        let (first, second) = (columns.min(lanes) as u32, columns.saturating_sub(lanes) as u32);
        let masks = [simd.mask_between_m32s(0, first), simd.mask_between_m32s(0, second)];
        let mut sums = [[simd.splat_f32s(0.0); 2]; M];
        // SAFETY: with `FULL` two whole vectors are inside, else those lanes of each that the masks let through.
        unsafe {
            for k in 0..inner {
                let from = self.b.add(k * self.b_row);
                let b = if FULL {
                    [from.cast::<S::f32s>().read_unaligned(), from.add(lanes).cast::<S::f32s>().read_unaligned()]
                } else {
                    let second = from.wrapping_add(lanes);
                    [simd.mask_load_ptr_f32s(masks[0], from), simd.mask_load_ptr_f32s(masks[1], second)]
                };
                for (m, sums) in sums.iter_mut().enumerate() {
                    let a = simd.splat_f32s(*self.a.add(m * a_row + k * a_column));
                    sums[0] = simd.mul_add_f32s(a, b[0], sums[0]);
                    sums[1] = simd.mul_add_f32s(a, b[1], sums[1]);
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    let to = self.c.add(m * self.c_row).wrapping_add(v * lanes);
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
