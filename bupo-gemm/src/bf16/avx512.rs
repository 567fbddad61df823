//! Blocks by AVX-512's products of pairs of bf16.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_permutex2var_epi32, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512,
};

use super::product::{Panels, Sums};
use super::tiles::{SIDE, Tile};

/// Rows whose sums fit into the 32 registers, two vectors each, with enough of them to hide an instruction's latency.
const ROWS: usize = 8;

pub(super) fn is_usable() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Computes the sums of a block's rows. Each is of one pair after the other.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn block(panels: Panels<'_>, sums: &mut Sums) {
    for first in (0..panels.rows).step_by(ROWS) {
        let left = panels.left[first / SIDE];
        let (row, right, sums) = (first % SIDE, panels.right, &mut sums.0[first..]);
        match panels.rows - first {
            1 => rows::<1>(left, row, right, sums),
            2 => rows::<2>(left, row, right, sums),
            3 => rows::<3>(left, row, right, sums),
            4 => rows::<4>(left, row, right, sums),
            5 => rows::<5>(left, row, right, sums),
            6 => rows::<6>(left, row, right, sums),
            7 => rows::<7>(left, row, right, sums),
            _ => rows::<ROWS>(left, row, right, sums),
        }
    }
}

/// The sums of `M` rows of the left panel, from `row` on.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn rows<const M: usize>(left: &[Tile], row: usize, right: [&[Tile]; 2], to: &mut [[f32; 2 * SIDE]]) {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    for (left, (first, second)) in left.iter().zip(right[0].iter().zip(right[1])) {
        for pair in 0..SIDE {
            let columns = [bf16s(load(&first.0[pair])), bf16s(load(&second.0[pair]))];
            for (m, sums) in sums.iter_mut().enumerate() {
                let element = bf16s(_mm512_set1_epi32(left.0[row + m][pair].cast_signed()));
                sums[0] = _mm512_dpbf16_ps(sums[0], element, columns[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], element, columns[1]);
            }
        }
    }
    for (to, sums) in to.iter_mut().zip(sums) {
        let (first, second) = to.split_at_mut(SIDE);
        store(first, sums[0]);
        store(second, sums[1]);
    }
}

/// The first halves of `a` and `b` in turn, and the second.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn interleaved(a: &[u32; SIDE], b: &[u32; SIDE]) -> [[u32; SIDE]; 2] {
    const FIRST: [u32; SIDE] = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
    const SECOND: [u32; SIDE] = [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31];
    let (a, b) = (load(a), load(b));
    let mut to = [[0; SIDE]; 2];
    for (to, places) in to.iter_mut().zip([FIRST, SECOND]) {
        let shuffled = _mm512_permutex2var_epi32(a, load(&places), b);
        // SAFETY: a vector has as many numbers.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), shuffled) };
    }
    to
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(from: &[u32; SIDE]) -> __m512i {
    // SAFETY: a vector has as many numbers.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(to: &mut [f32], values: __m512) {
    assert!(to.len() == SIDE, "a vector of numbers");
    // SAFETY: a vector has as many numbers.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn bf16s(bits: __m512i) -> __m512bh {
    // SAFETY: both are any 512 bits.
    unsafe { std::mem::transmute(bits) }
}
