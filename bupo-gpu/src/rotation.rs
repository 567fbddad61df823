//! The norm and rotary embedding of query and key heads, forward and backward, and the cache's new keys and values.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{cube_sum, cubes, empty, row_units};
use crate::norm::{column_sums, inverse_root};
use crate::runtime::{give, on_runtime, take, take_int, take_mut};

/// The most parts that heads are cut into for the weight's gradient.
const PARTS: usize = 2048;

/// The norms of query and key heads.
#[derive(Debug, Clone)]
pub struct HeadNorms<B: Backend> {
    /// The weight of the queries' norm, `[head_dim]`.
    pub q: Tensor<B, 1>,
    /// The weight of the keys' norm, `[head_dim]`.
    pub k: Tensor<B, 1>,
    /// Added to the mean square.
    pub eps: f64,
}

/// Queries and keys after norm and rotation.
#[derive(Debug)]
pub struct RotatedHeads<B: Backend> {
    /// `[batch, heads, seq, head_dim]`.
    pub q: Tensor<B, 4>,
    /// `[batch, kv_heads, seq, head_dim]`.
    pub k: Tensor<B, 4>,
}

/// Normalises the head at `from` if `norm`, rotates it by the table's row at `at` and writes it at `to`.
#[cube]
fn rotate_head<E: Float, W: Float>(
    x: &Array<E>,
    from: usize,
    weight: &Array<W>,
    table: &Array<f32>,
    at: usize,
    out: &mut Array<E>,
    to: usize,
    eps: f32,
    #[comptime] head_dim: usize,
    #[comptime] norm: bool,
    #[comptime] units: usize,
) {
    let pairs = comptime!(head_dim / 2);
    let mut inverse = f32::cast_from(units);
    if comptime!(norm) {
        let mut squares = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < head_dim {
            let value = f32::cast_from(x[from + i]);
            squares += value * value;
            i += units;
        }
        inverse = inverse_root(squares, eps, head_dim, units);
    }
    let mut i = UNIT_POS as usize;
    while i < pairs {
        let mut low = f32::cast_from(x[from + i]);
        let mut high = f32::cast_from(x[from + pairs + i]);
        if comptime!(norm) {
            low = low * inverse * f32::cast_from(weight[i]);
            high = high * inverse * f32::cast_from(weight[pairs + i]);
        }
        let cos = table[at + i];
        let sin = table[at + pairs + i];
        out[to + i] = E::cast_from(low * cos - high * sin);
        out[to + pairs + i] = E::cast_from(high * cos + low * sin);
        i += units;
    }
}

/// A cube a head of a token; queries before keys.
#[cube(launch)]
fn rotate_heads_kernel<E: Float, W: Float>(
    q: &Array<E>,
    k: &Array<E>,
    q_weight: &Array<W>,
    k_weight: &Array<W>,
    table: &Array<f32>,
    q_out: &mut Array<E>,
    k_out: &mut Array<E>,
    tokens: u32,
    seq: u32,
    places: u32,
    eps: f32,
    #[comptime] heads: usize,
    #[comptime] kv_heads: usize,
    #[comptime] head_dim: usize,
    #[comptime] norm: bool,
    #[comptime] units: usize,
    #[define(E, W)] _dtypes: [StorageType; 2],
) {
    let all = comptime!(heads + kv_heads);
    let token = CUBE_POS / all;
    if token >= tokens as usize {
        terminate!();
    }
    let head = CUBE_POS % all;
    let sequence = token / seq as usize;
    let slot = token % seq as usize;
    let at = token % places as usize * head_dim;
    if head < heads {
        let to = ((sequence * heads + head) * seq as usize + slot) * head_dim;
        let from = (token * heads + head) * head_dim;
        rotate_head::<E, W>(q, from, q_weight, table, at, q_out, to, eps, head_dim, norm, units);
    } else {
        let to = ((sequence * kv_heads + head - heads) * seq as usize + slot) * head_dim;
        let from = (token * kv_heads + head - heads) * head_dim;
        rotate_head::<E, W>(k, from, k_weight, table, at, k_out, to, eps, head_dim, norm, units);
    }
}

/// A cube a head of a row; queries, keys, values. Rows of `q`, `k` and `v` are `row`, `kv_row` and `kv_row` values apart; they
/// begin at 0, `k_start` and `v_start`.
#[cube(launch)]
fn rotate_into_cache_kernel<E: Float, W: Float>(
    q: &Array<E>,
    k: &Array<E>,
    v: &Array<E>,
    q_weight: &Array<W>,
    k_weight: &Array<W>,
    table: &Array<f32>,
    starts: &Array<i32>,
    q_out: &mut Array<E>,
    keys: &mut Array<E>,
    values: &mut Array<E>,
    rows: u32,
    row_width: u32,
    kv_row_width: u32,
    k_start: u32,
    v_start: u32,
    end: u32,
    slots: u32,
    eps: f32,
    #[comptime] heads: usize,
    #[comptime] kv_heads: usize,
    #[comptime] head_dim: usize,
    #[comptime] norm: bool,
    #[comptime] units: usize,
    #[define(E, W)] _dtypes: [StorageType; 2],
) {
    let all = comptime!(heads + 2 * kv_heads);
    let row = CUBE_POS / all;
    if row >= rows as usize {
        terminate!();
    }
    let head = CUBE_POS % all;
    let at = (end as usize - u32::cast_from(starts[row]) as usize) * head_dim;
    if head < heads {
        let to = (row * heads + head) * head_dim;
        let from = row * row_width as usize + head * head_dim;
        rotate_head::<E, W>(q, from, q_weight, table, at, q_out, to, eps, head_dim, norm, units);
    } else if head < heads + kv_heads {
        let kv_head = head - heads;
        let to = ((row * kv_heads + kv_head) * slots as usize + end as usize) * head_dim;
        let from = row * kv_row_width as usize + k_start as usize + kv_head * head_dim;
        rotate_head::<E, W>(k, from, k_weight, table, at, keys, to, eps, head_dim, norm, units);
    } else {
        let kv_head = head - heads - kv_heads;
        let to = ((row * kv_heads + kv_head) * slots as usize + end as usize) * head_dim;
        let from = row * kv_row_width as usize + v_start as usize + kv_head * head_dim;
        let mut i = UNIT_POS as usize;
        while i < head_dim {
            values[to + i] = v[from + i];
            i += units;
        }
    }
}

/// A cube goes through the heads `part, part + parts, ...` of all tokens.
#[cube(launch)]
fn rotate_heads_backward_kernel<E: Float, W: Float>(
    dy: &Array<E>,
    x: &Array<E>,
    weight: &Array<W>,
    table: &Array<f32>,
    dx: &mut Array<E>,
    d_weight: &mut Array<f32>,
    rows: u32,
    parts: u32,
    seq: u32,
    places: u32,
    eps: f32,
    #[comptime] heads: usize,
    #[comptime] head_dim: usize,
    #[comptime] norm: bool,
    #[comptime] units: usize,
    #[define(E, W)] _dtypes: [StorageType; 2],
) {
    let pairs = comptime!(head_dim / 2);
    let part = CUBE_POS;
    if part >= parts as usize {
        terminate!();
    }
    if comptime!(norm) {
        let mut clear = UNIT_POS as usize;
        while clear < pairs {
            d_weight[part * head_dim + clear] = 0.0f32;
            d_weight[part * head_dim + pairs + clear] = 0.0f32;
            clear += units;
        }
    }
    let mut row = part;
    while row < rows as usize {
        let token = row / heads;
        let head = row % heads;
        let to = row * head_dim;
        let from = ((token / seq as usize * heads + head) * seq as usize + token % seq as usize) * head_dim;
        let at = token % places as usize * head_dim;
        let mut inverse = f32::cast_from(units);
        let mut along = 0.0f32;
        if comptime!(norm) {
            let mut squares = 0.0f32;
            let mut i = UNIT_POS as usize;
            while i < pairs {
                let x_low = f32::cast_from(x[to + i]);
                let x_high = f32::cast_from(x[to + pairs + i]);
                squares += x_low * x_low + x_high * x_high;
                let d_low = f32::cast_from(dy[from + i]);
                let d_high = f32::cast_from(dy[from + pairs + i]);
                let cos = table[at + i];
                let sin = table[at + pairs + i];
                along += x_low * (d_low * cos + d_high * sin) * f32::cast_from(weight[i]);
                along += x_high * (d_high * cos - d_low * sin) * f32::cast_from(weight[pairs + i]);
                i += units;
            }
            inverse = inverse_root(squares, eps, head_dim, units);
            along = cube_sum(along, units) * inverse * inverse / f32::cast_from(head_dim);
        }
        let mut i = UNIT_POS as usize;
        while i < pairs {
            let d_low = f32::cast_from(dy[from + i]);
            let d_high = f32::cast_from(dy[from + pairs + i]);
            let cos = table[at + i];
            let sin = table[at + pairs + i];
            let mut low = d_low * cos + d_high * sin;
            let mut high = d_high * cos - d_low * sin;
            if comptime!(norm) {
                let x_low = f32::cast_from(x[to + i]);
                let x_high = f32::cast_from(x[to + pairs + i]);
                // A column belongs to one unit.
                d_weight[part * head_dim + i] += low * x_low * inverse;
                d_weight[part * head_dim + pairs + i] += high * x_high * inverse;
                low = (low * f32::cast_from(weight[i]) - x_low * along) * inverse;
                high = (high * f32::cast_from(weight[pairs + i]) - x_high * along) * inverse;
            }
            dx[to + i] = E::cast_from(low);
            dx[to + pairs + i] = E::cast_from(high);
            i += units;
        }
        row += parts as usize;
    }
}

/// Queries `[batch * seq, heads * head_dim]` and keys `[batch * seq, kv_heads * head_dim]` after their norms, if any, and
/// rotation by `table` `[seq or batch * seq, head_dim]`: cosines in the first half of a row, sines in the second. One launch.
pub fn rotate_heads<B: Backend>(
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    norms: Option<&HeadNorms<B>>,
    table: Tensor<B, 2>,
    batch: usize,
) -> RotatedHeads<B> {
    on_runtime!(B, R, {
        let weights = norms.map(|norms| [&norms.q, &norms.k].map(|weight| take::<B, R, 1>(weight.clone())));
        let eps = norms.map_or(0.0, |norms| norms.eps);
        let [q, k] = rotate([q, k].map(take::<B, R, 2>), weights, eps, take::<B, R, 2>(table), batch);
        RotatedHeads { q: give(q), k: give(k) }
    })
}

fn rotate<R: CubeRuntime>(
    [q, k]: [CubeTensor<R>; 2],
    weights: Option<[CubeTensor<R>; 2]>,
    eps: f64,
    table: CubeTensor<R>,
    batch: usize,
) -> [CubeTensor<R>; 2] {
    let ([tokens, q_width], [places, head_dim]) = (q.meta.shape().dims(), table.meta.shape().dims());
    let [_, k_width] = k.meta.shape().dims();
    let (heads, kv_heads, seq) = (q_width / head_dim, k_width / head_dim, tokens / batch);
    let out = |heads: usize| empty(&q, Shape::new([batch, heads, seq, head_dim]), q.dtype);
    let [q_out, k_out] = [out(heads), out(kv_heads)];
    let norm = weights.is_some();
    let [q_weight, k_weight] = weights.unwrap_or_else(|| [table.clone(), table.clone()]);
    let (units, dtypes) = (row_units(head_dim / 2), [q.dtype.into(), q_weight.dtype.into()]);
    rotate_heads_kernel::launch::<R>(
        &q_out.client,
        cubes(tokens * (heads + kv_heads)),
        CubeDim::new_1d(units as u32),
        q.into_array_arg(),
        k.into_array_arg(),
        q_weight.into_array_arg(),
        k_weight.into_array_arg(),
        table.into_array_arg(),
        q_out.clone().into_array_arg(),
        k_out.clone().into_array_arg(),
        tokens as u32,
        seq as u32,
        places as u32,
        eps as f32,
        heads,
        kv_heads,
        head_dim,
        norm,
        units,
        dtypes,
    );
    [q_out, k_out]
}

/// The gradient with respect to heads `x` `[batch * seq, heads * head_dim]` before norm and rotation, and in f32 that with
/// respect to the norm's weight, from the gradient `dy` `[batch, heads, seq, head_dim]`. Two launches, one without a norm.
pub fn rotate_heads_backward<B: Backend>(
    dy: Tensor<B, 4>,
    x: Tensor<B, 2>,
    norm: Option<(Tensor<B, 1>, f64)>,
    table: Tensor<B, 2>,
) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
    on_runtime!(B, R, {
        let norm = norm.map(|(weight, eps)| (take::<B, R, 1>(weight), eps));
        let (dx, d_weight) = rotate_back(take::<B, R, 4>(dy), take::<B, R, 2>(x), norm, take::<B, R, 2>(table));
        (give(dx), d_weight.map(give::<B, R, 1>))
    })
}

fn rotate_back<R: CubeRuntime>(
    dy: CubeTensor<R>,
    x: CubeTensor<R>,
    norm: Option<(CubeTensor<R>, f64)>,
    table: CubeTensor<R>,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let ([_, heads, seq, head_dim], [tokens, _]) = (dy.meta.shape().dims(), x.meta.shape().dims());
    let [places, _] = table.meta.shape().dims();
    let rows = tokens * heads;
    let dx = empty(&x, x.meta.shape().clone(), x.dtype);
    let has_norm = norm.is_some();
    let parts = if has_norm { rows.clamp(1, PARTS) } else { rows.max(1) };
    let partial = empty(&x, Shape::new([if has_norm { parts } else { 1 }, head_dim]), DType::F32);
    let (weight, eps) = norm.unwrap_or_else(|| (table.clone(), 0.0));
    let (units, dtypes) = (row_units(head_dim / 2), [x.dtype.into(), weight.dtype.into()]);
    rotate_heads_backward_kernel::launch::<R>(
        &dx.client,
        cubes(parts),
        CubeDim::new_1d(units as u32),
        dy.into_array_arg(),
        x.into_array_arg(),
        weight.into_array_arg(),
        table.into_array_arg(),
        dx.clone().into_array_arg(),
        partial.clone().into_array_arg(),
        rows as u32,
        parts as u32,
        seq as u32,
        places as u32,
        eps as f32,
        heads,
        head_dim,
        has_norm,
        units,
        dtypes,
    );
    (dx, has_norm.then(|| column_sums(partial, parts, head_dim)))
}

/// Norm and rotation of each row's newest token, whose keys and values are written at slot `end` of the cache
/// `[rows, kv_heads, slots, head_dim]`. A row's position is `end` less its first slot in `starts`. `q`, `k` and `v` are
/// `[rows, heads * head_dim]`; or `q` alone has the three of a row one after another. `table` is `[positions, head_dim]`.
/// Returns the queries `[rows, heads * head_dim]`, and the cache. One launch.
#[allow(clippy::too_many_arguments)] // A token's heads, what they are turned by, and the cache.
pub fn rotate_into_cache<B: Backend>(
    q: Tensor<B, 2>,
    kv: Option<[Tensor<B, 2>; 2]>,
    norms: Option<&HeadNorms<B>>,
    table: Tensor<B, 2>,
    starts: Tensor<B, 1, Int>,
    end: usize,
    cache: [Tensor<B, 4>; 2],
) -> (Tensor<B, 2>, [Tensor<B, 4>; 2]) {
    on_runtime!(B, R, {
        let weights = norms.map(|norms| [&norms.q, &norms.k].map(|weight| take::<B, R, 1>(weight.clone())));
        let eps = norms.map_or(0.0, |norms| norms.eps);
        let cache = cache.map(take_mut::<B, R, 4>);
        let kv = kv.map(|kv| kv.map(take::<B, R, 2>));
        let (table, starts) = (take::<B, R, 2>(table), take_int::<B, R, 1>(starts));
        let q = write_token(take::<B, R, 2>(q), kv, weights, eps, [table, starts], end, &cache);
        (give(q), cache.map(give::<B, R, 4>))
    })
}

fn write_token<R: CubeRuntime>(
    q: CubeTensor<R>,
    kv: Option<[CubeTensor<R>; 2]>,
    weights: Option<[CubeTensor<R>; 2]>,
    eps: f64,
    [table, starts]: [CubeTensor<R>; 2],
    end: usize,
    [keys, values]: &[CubeTensor<R>; 2],
) -> CubeTensor<R> {
    let ([rows, row_width], [_, kv_heads, slots, head_dim]) = (q.meta.shape().dims(), keys.meta.shape().dims());
    let kv_width = kv_heads * head_dim;
    let q_width = if kv.is_some() { row_width } else { row_width - 2 * kv_width };
    let (kv_row_width, k_start, v_start) =
        if kv.is_some() { (kv_width, 0, 0) } else { (row_width, q_width, q_width + kv_width) };
    let [k, v] = kv.unwrap_or_else(|| [q.clone(), q.clone()]);
    let heads = q_width / head_dim;
    let q_out = empty(&q, Shape::new([rows, q_width]), q.dtype);
    let norm = weights.is_some();
    let [q_weight, k_weight] = weights.unwrap_or_else(|| [table.clone(), table.clone()]);
    let (units, dtypes) = (row_units(head_dim / 2), [q.dtype.into(), q_weight.dtype.into()]);
    rotate_into_cache_kernel::launch::<R>(
        &q_out.client,
        cubes(rows * (heads + 2 * kv_heads)),
        CubeDim::new_1d(units as u32),
        q.into_array_arg(),
        k.into_array_arg(),
        v.into_array_arg(),
        q_weight.into_array_arg(),
        k_weight.into_array_arg(),
        table.into_array_arg(),
        starts.into_array_arg(),
        q_out.clone().into_array_arg(),
        keys.clone().into_array_arg(),
        values.clone().into_array_arg(),
        rows as u32,
        row_width as u32,
        kv_row_width as u32,
        k_start as u32,
        v_start as u32,
        end as u32,
        slots as u32,
        eps as f32,
        heads,
        kv_heads,
        head_dim,
        norm,
        units,
        dtypes,
    );
    q_out
}
