//! RMS norm, with the addition before it, and its backward pass.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cube_sum, cubes, empty, row_units};
use crate::runtime::{give, on_runtime, take};

/// The most parts that rows are cut into for the weight's gradient.
const PARTS: usize = 1024;

/// A unit's part of the sum of the squares of the `width` values of `x` from `base` on.
#[cube]
pub(crate) fn row_squares<E: Float>(
    x: &Array<E>,
    base: usize,
    #[comptime] width: usize,
    #[comptime] units: usize,
) -> f32 {
    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < width {
        let value = f32::cast_from(x[base + i]);
        squares += value * value;
        i += units;
    }
    squares
}

/// Writes `x * inverse * weight` of the row at `base`.
#[cube]
fn write_normed<E: Float, W: Float>(
    x: &Array<E>,
    weight: &Array<W>,
    out: &mut Array<E>,
    base: usize,
    inverse: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
) {
    let mut i = UNIT_POS as usize;
    while i < width {
        out[base + i] = E::cast_from(f32::cast_from(x[base + i]) * inverse * f32::cast_from(weight[i]));
        i += units;
    }
}

/// `1 / sqrt(mean(x^2) + eps)` from a unit's sum of squares.
#[cube]
pub(crate) fn inverse_root(squares: f32, eps: f32, #[comptime] width: usize, #[comptime] units: usize) -> f32 {
    let total = cube_sum(squares, units);
    1.0f32 / f32::sqrt(total / f32::cast_from(width) + eps)
}

#[cube(launch)]
fn rms_norm_kernel<E: Float, W: Float>(
    x: &Array<E>,
    weight: &Array<W>,
    out: &mut Array<E>,
    rows: u32,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E, W)] _dtypes: [StorageType; 2],
) {
    if CUBE_POS >= rows as usize {
        terminate!();
    }
    let base = CUBE_POS * width;
    let inverse = inverse_root(row_squares::<E>(x, base, width, units), eps, width, units);
    write_normed::<E, W>(x, weight, out, base, inverse, width, units);
}

#[cube(launch)]
fn add_rms_norm_kernel<E: Float, W: Float>(
    x: &Array<E>,
    y: &Array<E>,
    weight: &Array<W>,
    sum: &mut Array<E>,
    out: &mut Array<E>,
    rows: u32,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E, W)] _dtypes: [StorageType; 2],
) {
    if CUBE_POS >= rows as usize {
        terminate!();
    }
    let base = CUBE_POS * width;
    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < width {
        let rounded = E::cast_from(f32::cast_from(x[base + i]) + f32::cast_from(y[base + i]));
        sum[base + i] = rounded;
        let value = f32::cast_from(rounded);
        squares += value * value;
        i += units;
    }
    let inverse = inverse_root(squares, eps, width, units);
    // Each unit reads what it wrote.
    write_normed::<E, W>(sum, weight, out, base, inverse, width, units);
}

/// A cube goes through the rows `part, part + parts, ...`. With `add` the gradients `past` are added.
#[cube(launch)]
fn rms_norm_backward_kernel<E: Float, W: Float>(
    x: &Array<E>,
    weight: &Array<W>,
    dy: &Array<E>,
    past: &Array<E>,
    dx: &mut Array<E>,
    d_weight: &mut Array<f32>,
    rows: u32,
    parts: u32,
    eps: f32,
    #[comptime] add: bool,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E, W)] _dtypes: [StorageType; 2],
) {
    let part = CUBE_POS;
    if part >= parts as usize {
        terminate!();
    }
    let mut clear = UNIT_POS as usize;
    while clear < width {
        d_weight[part * width + clear] = 0.0f32;
        clear += units;
    }
    let mut row = part;
    while row < rows as usize {
        let base = row * width;
        let mut squares = 0.0f32;
        let mut along = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < width {
            let value = f32::cast_from(x[base + i]);
            squares += value * value;
            along += value * f32::cast_from(dy[base + i]) * f32::cast_from(weight[i]);
            i += units;
        }
        let inverse = inverse_root(squares, eps, width, units);
        let along = cube_sum(along, units) * inverse * inverse / f32::cast_from(width);
        let mut j = UNIT_POS as usize;
        while j < width {
            let value = f32::cast_from(x[base + j]);
            let d = f32::cast_from(dy[base + j]);
            // A column belongs to one unit.
            d_weight[part * width + j] += d * value * inverse;
            let mut own = (d * f32::cast_from(weight[j]) - value * along) * inverse;
            if comptime!(add) {
                own += f32::cast_from(past[base + j]);
            }
            dx[base + j] = E::cast_from(own);
            j += units;
        }
        row += parts as usize;
    }
}

/// The sums of the columns of `[parts, width]`: a cube each.
#[cube(launch)]
fn column_sums_kernel(values: &Array<f32>, out: &mut Array<f32>, parts: u32, width: u32, #[comptime] units: usize) {
    if CUBE_POS >= width as usize {
        terminate!();
    }
    let mut sum = 0.0f32;
    let mut part = UNIT_POS as usize;
    while part < parts as usize {
        sum += values[part * width as usize + CUBE_POS];
        part += units;
    }
    let total = cube_sum(sum, units);
    if UNIT_POS == 0 {
        out[CUBE_POS] = total;
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` of each row. One launch.
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 1>, eps: f64) -> Tensor<B, 2> {
    on_runtime!(B, R, give(normalize(take::<B, R, 2>(x), take::<B, R, 1>(weight), eps)))
}

fn normalize<R: CubeRuntime>(x: CubeTensor<R>, weight: CubeTensor<R>, eps: f64) -> CubeTensor<R> {
    let [rows, width] = x.meta.shape().dims();
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let (units, dtypes) = (row_units(width), [x.dtype.into(), weight.dtype.into()]);
    rms_norm_kernel::launch::<R>(
        &out.client,
        cubes(rows),
        CubeDim::new_1d(units as u32),
        x.into_array_arg(),
        weight.into_array_arg(),
        out.clone().into_array_arg(),
        rows as u32,
        eps as f32,
        width,
        units,
        dtypes,
    );
    out
}

/// `x + y`, and its [`rms_norm`]. One launch.
pub fn add_rms_norm<B: Backend>(
    x: Tensor<B, 2>,
    y: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    eps: f64,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    on_runtime!(B, R, {
        let (sum, out) = add_and_normalize([x, y].map(take::<B, R, 2>), take::<B, R, 1>(weight), eps);
        (give(sum), give(out))
    })
}

fn add_and_normalize<R: CubeRuntime>(
    [x, y]: [CubeTensor<R>; 2],
    weight: CubeTensor<R>,
    eps: f64,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let [rows, width] = x.meta.shape().dims();
    let [sum, out] = [(); 2].map(|()| empty(&x, x.meta.shape().clone(), x.dtype));
    let (units, dtypes) = (row_units(width), [x.dtype.into(), weight.dtype.into()]);
    add_rms_norm_kernel::launch::<R>(
        &out.client,
        cubes(rows),
        CubeDim::new_1d(units as u32),
        x.into_array_arg(),
        y.into_array_arg(),
        weight.into_array_arg(),
        sum.clone().into_array_arg(),
        out.clone().into_array_arg(),
        rows as u32,
        eps as f32,
        width,
        units,
        dtypes,
    );
    (sum, out)
}

/// The gradients with respect to `x` and, in f32, the weight, from the gradient `dy` with respect to [`rms_norm`]'s result.
/// Two launches.
pub fn rms_norm_backward<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    eps: f64,
    dy: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    on_runtime!(B, R, {
        let (dx, d_weight) = backward([x, dy].map(take::<B, R, 2>), None, take::<B, R, 1>(weight), eps);
        (give(dx), give(d_weight))
    })
}

/// The gradients of [`add_rms_norm`] with respect to either term and, in f32, the weight, from those with respect to the
/// `sum` as it is and to its norm, `dy`. Two launches.
pub fn add_rms_norm_backward<B: Backend>(
    sum: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    eps: f64,
    d_sum: Tensor<B, 2>,
    dy: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    on_runtime!(B, R, {
        let past = Some(take::<B, R, 2>(d_sum));
        let (dx, d_weight) = backward([sum, dy].map(take::<B, R, 2>), past, take::<B, R, 1>(weight), eps);
        (give(dx), give(d_weight))
    })
}

fn backward<R: CubeRuntime>(
    [x, dy]: [CubeTensor<R>; 2],
    past: Option<CubeTensor<R>>,
    weight: CubeTensor<R>,
    eps: f64,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let [rows, width] = x.meta.shape().dims();
    let parts = rows.clamp(1, PARTS);
    let dx = empty(&x, x.meta.shape().clone(), x.dtype);
    let partial = empty(&x, Shape::new([parts, width]), DType::F32);
    let add = past.is_some();
    // Without an addition the argument is not read.
    let past = past.unwrap_or_else(|| dy.clone());
    let (units, dtypes) = (row_units(width), [x.dtype.into(), weight.dtype.into()]);
    rms_norm_backward_kernel::launch::<R>(
        &dx.client,
        cubes(parts),
        CubeDim::new_1d(units as u32),
        x.into_array_arg(),
        weight.into_array_arg(),
        dy.into_array_arg(),
        past.into_array_arg(),
        dx.clone().into_array_arg(),
        partial.clone().into_array_arg(),
        rows as u32,
        parts as u32,
        eps as f32,
        add,
        width,
        units,
        dtypes,
    );
    let d_weight = column_sums(partial, parts, width);
    (dx, d_weight)
}

/// The sums over the parts of `[parts, width]`, in an order that depends on their number only.
pub(crate) fn column_sums<R: CubeRuntime>(partial: CubeTensor<R>, parts: usize, width: usize) -> CubeTensor<R> {
    let sums = empty(&partial, Shape::new([width]), DType::F32);
    column_sums_kernel::launch::<R>(
        &sums.client,
        cubes(width),
        CubeDim::new_1d(UNITS as u32),
        partial.into_array_arg(),
        sums.clone().into_array_arg(),
        parts as u32,
        width as u32,
        UNITS,
    );
    sums
}
