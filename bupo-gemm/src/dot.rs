//! Dot products of some rows with some rows of weights, both read along their rows.

use half::bf16;
use pulp::Simd;

/// Rows of weights that are read together.
pub(crate) const WEIGHT_ROWS: usize = 4;

/// A number as weights are stored.
pub(crate) trait Stored: Copy + Send + Sync {
    /// As many stored numbers as a vector of f32 has lanes, as f32.
    ///
    /// # Safety
    /// `from` points to as many numbers.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::f32s;
    fn to_f32(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(_: S, from: *const Self) -> S::f32s {
        // SAFETY: by the caller's promise; a vector of f32 has the layout of an array.
        unsafe { from.cast::<S::f32s>().read_unaligned() }
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Stored for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::f32s {
        let mut wide = simd.splat_u32s(0);
        // A loop over the lanes of a vector, which compiles to one widening load.
        let lanes = &raw mut wide as *mut u32;
        for lane in 0..S::F32_LANES {
            // SAFETY: by the caller's promise, and `wide` has as many lanes.
            unsafe { *lanes.add(lane) = u32::from((*from.add(lane)).to_bits()) << 16 };
        }
        simd.transmute_f32s_u32s(wide)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }
}

/// The dot products of `M` rows with [`WEIGHT_ROWS`] rows of weights, all of `inner` numbers. The rows start `distance` numbers apart,
/// the first at `x`.
///
/// # Safety
/// There are `inner` numbers from the start of each row on.
#[inline(always)]
pub(crate) unsafe fn dot_block<S: Simd, W: Stored, const M: usize>(
    simd: S,
    x: *const f32,
    distance: usize,
    weights: [*const W; WEIGHT_ROWS],
    inner: usize,
) -> [[f32; WEIGHT_ROWS]; M] {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); WEIGHT_ROWS]; M];
    let mut at = 0;
    while at + lanes <= inner {
        // SAFETY: `at + lanes` is within each row.
        unsafe {
            let w = [
                W::load(simd, weights[0].add(at)),
                W::load(simd, weights[1].add(at)),
                W::load(simd, weights[2].add(at)),
                W::load(simd, weights[3].add(at)),
            ];
            for (m, sums) in sums.iter_mut().enumerate() {
                let x = f32::load(simd, x.add(m * distance + at));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = simd.mul_add_f32s(x, w, *sum);
                }
            }
        }
        at += lanes;
    }
    let mut dots = [[0.0; WEIGHT_ROWS]; M];
    for (dots, sums) in dots.iter_mut().zip(sums) {
        for (dot, sum) in dots.iter_mut().zip(sums) {
            *dot = simd.reduce_sum_f32s(sum);
        }
    }
    // The rest of a row, shorter than a vector.
    while at < inner {
        for (m, dots) in dots.iter_mut().enumerate() {
            for (dot, weights) in dots.iter_mut().zip(weights) {
                // SAFETY: `at` is within each row.
                *dot += unsafe { *x.add(m * distance + at) * (*weights.add(at)).to_f32() };
            }
        }
        at += 1;
    }
    dots
}
