//! SwiGLU, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cubes_of_values, empty};
use crate::runtime::{give, on_runtime, take};

/// `gate` and `up` have rows that are `row` values apart; `up`'s begin at `up_start`.
#[cube(launch)]
fn swiglu_kernel<E: Float>(
    gate: &Array<E>,
    up: &Array<E>,
    out: &mut Array<E>,
    width: u32,
    row: u32,
    up_start: u32,
    #[define(E)] _dtype: StorageType,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let at = i / width as usize * row as usize + i % width as usize;
        let x = f32::cast_from(gate[at]);
        let open = 1.0f32 / (1.0f32 + f32::exp(-x));
        out[i] = E::cast_from(x * open * f32::cast_from(up[at + up_start as usize]));
    }
}

#[cube(launch)]
fn swiglu_backward_kernel<E: Float>(
    gate: &Array<E>,
    up: &Array<E>,
    d_hidden: &Array<E>,
    hidden: &mut Array<E>,
    d_gate: &mut Array<E>,
    d_up: &mut Array<E>,
    #[define(E)] _dtype: StorageType,
) {
    let i = ABSOLUTE_POS;
    if i < gate.len() {
        let x = f32::cast_from(gate[i]);
        let u = f32::cast_from(up[i]);
        let d = f32::cast_from(d_hidden[i]);
        let open = 1.0f32 / (1.0f32 + f32::exp(-x));
        let passed = x * open;
        let slope = open + passed * (1.0f32 - open);
        hidden[i] = E::cast_from(passed * u);
        d_gate[i] = E::cast_from(d * u * slope);
        d_up[i] = E::cast_from(d * passed);
    }
}

/// `silu(gate) * up` of both `[rows, width]`, or of `[rows, 2 * width]` that has a row's gate before its `up`. One launch.
pub fn swiglu<B: Backend>(gate: Tensor<B, 2>, up: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
    on_runtime!(B, R, {
        let gate = take::<B, R, 2>(gate);
        let up = up.map(take::<B, R, 2>);
        give(forward(gate, up))
    })
}

fn forward<R: CubeRuntime>(gate: CubeTensor<R>, up: Option<CubeTensor<R>>) -> CubeTensor<R> {
    let [rows, row] = gate.meta.shape().dims();
    let (width, up_start) = if up.is_some() { (row, 0) } else { (row / 2, row / 2) };
    let up = up.unwrap_or_else(|| gate.clone());
    let out = empty(&gate, Shape::new([rows, width]), gate.dtype);
    let dtype = gate.dtype.into();
    swiglu_kernel::launch::<R>(
        &out.client,
        cubes_of_values(rows * width),
        CubeDim::new_1d(UNITS as u32),
        gate.into_array_arg(),
        up.into_array_arg(),
        out.clone().into_array_arg(),
        width as u32,
        row as u32,
        up_start as u32,
        dtype,
    );
    out
}

/// [`swiglu`]'s result, and the gradients with respect to the gate and to `up`, from that with respect to the result. One
/// launch.
pub fn swiglu_backward<B: Backend>(gate: Tensor<B, 2>, up: Tensor<B, 2>, d_hidden: Tensor<B, 2>) -> [Tensor<B, 2>; 3] {
    on_runtime!(B, R, {
        let inputs = [gate, up, d_hidden].map(take::<B, R, 2>);
        backward(inputs).map(give::<B, R, 2>)
    })
}

fn backward<R: CubeRuntime>([gate, up, d_hidden]: [CubeTensor<R>; 3]) -> [CubeTensor<R>; 3] {
    let outputs = [(); 3].map(|()| empty(&gate, gate.meta.shape().clone(), gate.dtype));
    let [hidden, d_gate, d_up] = outputs.clone();
    let (client, count, dtype) = (gate.client.clone(), gate.meta.num_elements(), gate.dtype.into());
    swiglu_backward_kernel::launch::<R>(
        &client,
        cubes_of_values(count),
        CubeDim::new_1d(UNITS as u32),
        gate.into_array_arg(),
        up.into_array_arg(),
        d_hidden.into_array_arg(),
        hidden.into_array_arg(),
        d_gate.into_array_arg(),
        d_up.into_array_arg(),
        dtype,
    );
    outputs
}
