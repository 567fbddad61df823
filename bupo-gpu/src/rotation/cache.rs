//! The rotation of each row's newest token, whose keys and values go into the cache.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{HeadNorms, TakenNorms, rotate_head};
use crate::cube::{cubes, empty, row_units};
use crate::runtime::{give, on_runtime, take, take_int, take_mut};

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
        let cache = cache.map(take_mut::<B, R, 4>);
        let kv = kv.map(|kv| kv.map(take::<B, R, 2>));
        let (table, starts) = (take::<B, R, 2>(table), take_int::<B, R, 1>(starts));
        let norms = TakenNorms::new(norms, &table);
        let q = write_token(take::<B, R, 2>(q), kv, norms, [table, starts], end, &cache);
        (give(q), cache.map(give::<B, R, 4>))
    })
}

fn write_token<R: CubeRuntime>(
    q: CubeTensor<R>,
    kv: Option<[CubeTensor<R>; 2]>,
    norms: TakenNorms<R>,
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
    let (units, dtypes) = (row_units(head_dim / 2), [q.dtype.into(), norms.q.dtype.into()]);
    rotate_into_cache_kernel::launch::<R>(
        &q_out.client,
        cubes(rows * (heads + 2 * kv_heads)),
        CubeDim::new_1d(units as u32),
        q.into_array_arg(),
        k.into_array_arg(),
        v.into_array_arg(),
        norms.q.into_array_arg(),
        norms.k.into_array_arg(),
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
        norms.eps,
        heads,
        kv_heads,
        head_dim,
        norms.there,
        units,
        dtypes,
    );
    q_out
}
