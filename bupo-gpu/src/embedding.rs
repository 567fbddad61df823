//! The gradient of an embedding table.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cube_max, cubes};
use crate::runtime::{give, on_runtime, take, take_int, take_mut};

/// A cube a place: the first place of a token sums the rows of all its places, in order.
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
    let token = tokens[place];
    let mut earlier = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < place {
        if tokens[i] == token {
            earlier = 1.0f32;
        }
        i += units;
    }
    if cube_max(earlier, units) > 0.5f32 {
        terminate!();
    }
    let width = width as usize;
    let to = u32::cast_from(token) as usize * width;
    let mut column = UNIT_POS as usize;
    while column < width {
        let mut sum = table[to + column];
        let mut i = place;
        while i < count {
            if tokens[i] == token {
                sum += f32::cast_from(rows[i * width + column]);
            }
            i += 1;
        }
        table[to + column] = sum;
        column += units;
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
