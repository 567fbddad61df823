//! The sum of the squares of many tensors, for a gradient's norm.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cube_sum, cubes, empty};
use crate::runtime::{give, on_runtime, take};

/// Values of one partial sum.
const BLOCK: usize = 1 << 14;

#[cube(launch)]
fn squares_kernel(
    values: &Array<f32>,
    sums: &mut Array<f32>,
    start: u32,
    blocks: u32,
    #[comptime] block: usize,
    #[comptime] units: usize,
) {
    if CUBE_POS >= blocks as usize {
        terminate!();
    }
    let first = CUBE_POS * block;
    let mut end = first + block;
    if end > values.len() {
        end = values.len();
    }
    let mut sum = 0.0f32;
    let mut i = first + UNIT_POS as usize;
    while i < end {
        let value = values[i];
        sum += value * value;
        i += units;
    }
    let total = cube_sum(sum, units);
    if UNIT_POS == 0 {
        sums[start as usize + CUBE_POS] = total;
    }
}

/// The sum of the squares of all f32 `tensors`: one launch a tensor, and one transfer. Partial sums are of blocks of a fixed
/// size and added in order in f64, so the result is the same at every run.
pub fn sum_of_squares<B: Backend>(tensors: Vec<Tensor<B, 1>>) -> f64 {
    let blocks = |tensor: &Tensor<B, 1>| tensor.dims()[0].div_ceil(BLOCK);
    let total = tensors.iter().map(blocks).sum();
    if total == 0 {
        return 0.0;
    }
    let sums: Tensor<B, 1> = on_runtime!(B, R, {
        let tensors: Vec<CubeTensor<R>> =
            tensors.into_iter().filter(|tensor| blocks(tensor) > 0).map(take::<B, R, 1>).collect();
        let sums = empty(&tensors[0], Shape::new([total]), DType::F32);
        let mut start = 0;
        for tensor in tensors {
            start += launch(tensor, &sums, start);
        }
        give(sums)
    });
    sums.into_data().iter::<f64>().sum()
}

/// Writes a tensor's partial sums from `start` on, and returns their number.
fn launch<R: CubeRuntime>(tensor: CubeTensor<R>, sums: &CubeTensor<R>, start: usize) -> usize {
    let blocks = tensor.meta.num_elements().div_ceil(BLOCK);
    squares_kernel::launch::<R>(
        &sums.client,
        cubes(blocks),
        CubeDim::new_1d(UNITS as u32),
        tensor.into_array_arg(),
        sums.clone().into_array_arg(),
        start as u32,
        blocks as u32,
        BLOCK,
        UNITS,
    );
    blocks
}
