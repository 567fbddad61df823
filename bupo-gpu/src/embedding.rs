//! The gradient of an embedding table.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cube_max, cubes};
use crate::runtime::{give, on_runtime, take, take_int, take_mut};

/// A cube a place: the first place of a token adds the rows of all its places, in order. Places are compared in parallel, a block
/// of them at a time.
#[cube(launch)]
fn add_rows_kernel<E: Float>(
    tokens: &Array<i32>,
    rows: &Array<E>,
    table: &mut Array<f32>,
    count: u32,
    width: u32,
    #[comptime] units: usize,
    #[define(E)] _dtype: StorageType,
) {
    let place = CUBE_POS;
    let count = count as usize;
    if place >= count {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let token = tokens[place];
    let mut earlier = 0.0f32;
    let mut i = unit;
    while i < place {
        if tokens[i] == token {
            earlier = 1.0f32;
        }
        i += units;
    }
    let is_first = cube_max(earlier, units) < 0.5f32;
    let width = width as usize;
    let to = u32::cast_from(token) as usize * width;
    let mut same = SharedMemory::<f32>::new(units);
    let mut start = place;
    while start < count {
        let mut equal = 0.0f32;
        // Both sides are evaluated, so the index is kept inside.
        if start + unit < count && tokens[min(start + unit, count - 1)] == token {
            equal = 1.0f32;
        }
        same[unit] = equal;
        if cube_max(equal, units) > 0.5f32 && is_first {
            for j in 0..units {
                if same[j] > 0.5f32 {
                    let from = (start + j) * width;
                    // A column belongs to one unit.
                    let mut column = unit;
                    while column < width {
                        table[to + column] += f32::cast_from(rows[from + column]);
                        column += units;
                    }
                }
            }
        }
        // Before the next block is compared.
        sync_cube();
        start += units;
    }
}

/// Adds each of `rows` `[tokens, width]` to its token's row of the f32 `table` `[vocab, width]`. The rows of a token are added
/// in order, so the result is the same at every run. One launch.
pub fn add_rows<B: Backend>(table: Tensor<B, 2>, tokens: Tensor<B, 1, Int>, rows: Tensor<B, 2>) -> Tensor<B, 2> {
    on_runtime!(B, R, {
        let table = take_mut::<B, R, 2>(table);
        launch(&table, take_int::<B, R, 1>(tokens), take::<B, R, 2>(rows));
        give(table)
    })
}

fn launch<R: CubeRuntime>(table: &CubeTensor<R>, tokens: CubeTensor<R>, rows: CubeTensor<R>) {
    let [count, width] = rows.meta.shape().dims();
    let dtype = rows.dtype.into();
    add_rows_kernel::launch::<R>(
        &table.client,
        cubes(count),
        CubeDim::new_1d(UNITS as u32),
        tokens.into_array_arg(),
        rows.into_array_arg(),
        table.clone().into_array_arg(),
        count as u32,
        width as u32,
        UNITS,
        dtype,
    );
}
