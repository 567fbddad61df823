//! What kernels share: sizes of launches, new tensors, sums over the units of a cube.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Cubes along one axis, below the limit of WGPU.
const CUBES_IN_A_ROW: usize = 1 << 15;
/// Units of a cube where each computes one value.
pub(crate) const UNITS: usize = 256;

/// At least `count` cubes; a kernel ends in those beyond it.
pub(crate) fn cubes(count: usize) -> CubeCount {
    let width = count.clamp(1, CUBES_IN_A_ROW);
    CubeCount::Static(width as u32, count.div_ceil(width).max(1) as u32, 1)
}

/// Cubes of [`UNITS`] units for `count` values.
pub(crate) fn cubes_of_values(count: usize) -> CubeCount {
    cubes(count.div_ceil(UNITS))
}

/// Units for rows of `width` values: a power of two.
pub(crate) fn row_units(width: usize) -> usize {
    width.next_power_of_two().clamp(32, UNITS)
}

/// A new tensor beside another one, with arbitrary values.
pub(crate) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: Shape, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// The sum of `value` over the units of a cube, whose number is a power of two.
#[cube]
pub(crate) fn cube_sum(value: f32, #[comptime] units: usize) -> f32 {
    let mut shared = SharedMemory::<f32>::new(units);
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    let total = shared[0];
    // Before another sum writes there.
    sync_cube();
    total
}

/// The largest `value` of the units of a cube, whose number is a power of two.
#[cube]
pub(crate) fn cube_max(value: f32, #[comptime] units: usize) -> f32 {
    let mut shared = SharedMemory::<f32>::new(units);
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if unit < half {
            let other = shared[unit + half];
            let own = shared[unit];
            shared[unit] = max(own, other);
        }
        sync_cube();
        half /= 2;
    }
    let largest = shared[0];
    sync_cube();
    largest
}
