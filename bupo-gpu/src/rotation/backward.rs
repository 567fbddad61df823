//! The backward pass of heads of whole sequences.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{HeadNorms, TakenNorms};
use crate::cube::{cube_sum, cubes, empty, row_units};
use crate::norm::{column_sums, inverse_root};
use crate::runtime::{give, on_runtime, take};

/// The most parts that tokens are cut into for the weights' gradients.
const PARTS: usize = 1024;

/// The results of [`rotate_heads_backward`].
#[derive(Debug)]
pub struct HeadGradients<B: Backend> {
    /// With respect to the queries, `[batch * seq, heads * head_dim]`.
    pub q: Tensor<B, 2>,
    /// With respect to the keys, `[batch * seq, kv_heads * head_dim]`.
    pub k: Tensor<B, 2>,
    /// With respect to the weights of the queries' and the keys' norm, in f32, where there are norms.
    pub weights: Option<[Tensor<B, 1>; 2]>,
}

/// The gradient of a head from `dy` at `from` and its values `x` at `to`, written there; adds that of the norm's weight from
/// `sums` on.
#[cube]
fn rotate_head_back<E: Float, W: Float>(
    dy: &Array<E>,
    from: usize,
    x: &Array<E>,
    weight: &Array<W>,
    table: &Array<f32>,
    at: usize,
    dx: &mut Array<E>,
    to: usize,
    d_weights: &mut Array<f32>,
    sums: usize,
    eps: f32,
    #[comptime] head_dim: usize,
    #[comptime] norm: bool,
    #[comptime] units: usize,
) {
    let pairs = comptime!(head_dim / 2);
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
            d_weights[sums + i] += low * x_low * inverse;
            d_weights[sums + pairs + i] += high * x_high * inverse;
            low = (low * f32::cast_from(weight[i]) - x_low * along) * inverse;
            high = (high * f32::cast_from(weight[pairs + i]) - x_high * along) * inverse;
        }
        dx[to + i] = E::cast_from(low);
        dx[to + pairs + i] = E::cast_from(high);
        i += units;
    }
}

/// A cube goes through the heads `part, part + parts, ...` of all tokens, queries of a token before its keys.
#[cube(launch)]
fn rotate_heads_backward_kernel<E: Float, W: Float>(
    d_q: &Array<E>,
    d_k: &Array<E>,
    q: &Array<E>,
    k: &Array<E>,
    q_weight: &Array<W>,
    k_weight: &Array<W>,
    table: &Array<f32>,
    q_out: &mut Array<E>,
    k_out: &mut Array<E>,
    d_weights: &mut Array<f32>,
    tokens: u32,
    parts: u32,
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
    let part = CUBE_POS;
    if part >= parts as usize {
        terminate!();
    }
    let all = comptime!(heads + kv_heads);
    // A part's sums for the queries' weight, then those for the keys'.
    let q_sums = part * comptime!(2 * head_dim);
    let k_sums = q_sums + head_dim;
    if comptime!(norm) {
        let pairs = comptime!(head_dim / 2);
        let mut clear = UNIT_POS as usize;
        while clear < pairs {
            d_weights[q_sums + clear] = 0.0f32;
            d_weights[q_sums + pairs + clear] = 0.0f32;
            d_weights[k_sums + clear] = 0.0f32;
            d_weights[k_sums + pairs + clear] = 0.0f32;
            clear += units;
        }
    }
    let seq = seq as usize;
    let mut row = part;
    while row < tokens as usize * all {
        let token = row / all;
        let head = row % all;
        let slot = token % seq;
        let at = token % places as usize * head_dim;
        if head < heads {
            let from = ((token / seq * heads + head) * seq + slot) * head_dim;
            let to = (token * heads + head) * head_dim;
            rotate_head_back::<E, W>(
                d_q, from, q, q_weight, table, at, q_out, to, d_weights, q_sums, eps, head_dim, norm, units,
            );
        } else {
            let from = ((token / seq * kv_heads + head - heads) * seq + slot) * head_dim;
            let to = (token * kv_heads + head - heads) * head_dim;
            rotate_head_back::<E, W>(
                d_k, from, k, k_weight, table, at, k_out, to, d_weights, k_sums, eps, head_dim, norm, units,
            );
        }
        row += parts as usize;
    }
}

/// The gradients with respect to queries `[batch * seq, heads * head_dim]` and keys `[batch * seq, kv_heads * head_dim]`
/// before their norms, if any, and rotation, from those of the results, `[batch, heads, seq, head_dim]` and
/// `[batch, kv_heads, seq, head_dim]`. Two launches, one without norms.
pub fn rotate_heads_backward<B: Backend>(
    d_q: Tensor<B, 4>,
    d_k: Tensor<B, 4>,
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    norms: Option<&HeadNorms<B>>,
    table: Tensor<B, 2>,
) -> HeadGradients<B> {
    on_runtime!(B, R, {
        let table = take::<B, R, 2>(table);
        let taken = TakenNorms::new(norms, &table);
        let ([q, k], sums) = rotate_back([d_q, d_k].map(take::<B, R, 4>), [q, k].map(take::<B, R, 2>), taken, table);
        let weights = sums.map(|sums| {
            let sums: Tensor<B, 1> = give(sums);
            let width = sums.dims()[0] / 2;
            [0, width].map(|start| sums.clone().narrow(0, start, width))
        });
        HeadGradients { q: give(q), k: give(k), weights }
    })
}

/// The gradients of queries and keys, and of both weights one after another.
fn rotate_back<R: CubeRuntime>(
    [d_q, d_k]: [CubeTensor<R>; 2],
    [q, k]: [CubeTensor<R>; 2],
    norms: TakenNorms<R>,
    table: CubeTensor<R>,
) -> ([CubeTensor<R>; 2], Option<CubeTensor<R>>) {
    let ([_, heads, seq, head_dim], [_, kv_heads, ..]) = (d_q.meta.shape().dims(), d_k.meta.shape().dims::<4>());
    let ([tokens, _], [places, _]) = (q.meta.shape().dims::<2>(), table.meta.shape().dims::<2>());
    let [q_out, k_out] = [&q, &k].map(|x| empty(x, x.meta.shape().clone(), x.dtype));
    let rows = tokens * (heads + kv_heads);
    let there = norms.there;
    let parts = if there { rows.clamp(1, PARTS) } else { rows.max(1) };
    let partial = empty(&q, Shape::new([if there { parts } else { 1 }, 2 * head_dim]), DType::F32);
    let (units, dtypes) = (row_units(head_dim / 2), [q.dtype.into(), norms.q.dtype.into()]);
    rotate_heads_backward_kernel::launch::<R>(
        &q_out.client,
        cubes(parts),
        CubeDim::new_1d(units as u32),
        d_q.into_array_arg(),
        d_k.into_array_arg(),
        q.into_array_arg(),
        k.into_array_arg(),
        norms.q.into_array_arg(),
        norms.k.into_array_arg(),
        table.into_array_arg(),
        q_out.clone().into_array_arg(),
        k_out.clone().into_array_arg(),
        partial.clone().into_array_arg(),
        tokens as u32,
        parts as u32,
        seq as u32,
        places as u32,
        norms.eps,
        heads,
        kv_heads,
        head_dim,
        there,
        units,
        dtypes,
    );
    ([q_out, k_out], there.then(|| column_sums(partial, parts, 2 * head_dim)))
}
