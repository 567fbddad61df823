//! Heads of whole sequences.

use burn::tensor::backend::Backend;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{HeadNorms, TakenNorms, rotate_head};
use crate::cube::{cubes, empty, row_units};
use crate::runtime::{give, on_runtime, take};

/// Queries and keys after norm and rotation.
#[derive(Debug)]
pub struct RotatedHeads<B: Backend> {
    /// `[batch, heads, seq, head_dim]`.
    pub q: Tensor<B, 4>,
    /// `[batch, kv_heads, seq, head_dim]`.
    pub k: Tensor<B, 4>,
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
        let table = take::<B, R, 2>(table);
        let norms = TakenNorms::new(norms, &table);
        let [q, k] = rotate([q, k].map(take::<B, R, 2>), norms, table, batch);
        RotatedHeads { q: give(q), k: give(k) }
    })
}

fn rotate<R: CubeRuntime>(
    [q, k]: [CubeTensor<R>; 2],
    norms: TakenNorms<R>,
    table: CubeTensor<R>,
    batch: usize,
) -> [CubeTensor<R>; 2] {
    let ([tokens, q_width], [places, head_dim]) = (q.meta.shape().dims(), table.meta.shape().dims());
    let [_, k_width] = k.meta.shape().dims();
    let (heads, kv_heads, seq) = (q_width / head_dim, k_width / head_dim, tokens / batch);
    let out = |heads: usize| empty(&q, Shape::new([batch, heads, seq, head_dim]), q.dtype);
    let [q_out, k_out] = [out(heads), out(kv_heads)];
    let (units, dtypes) = (row_units(head_dim / 2), [q.dtype.into(), norms.q.dtype.into()]);
    rotate_heads_kernel::launch::<R>(
        &q_out.client,
        cubes(tokens * (heads + kv_heads)),
        CubeDim::new_1d(units as u32),
        q.into_array_arg(),
        k.into_array_arg(),
        norms.q.into_array_arg(),
        norms.k.into_array_arg(),
        table.into_array_arg(),
        q_out.clone().into_array_arg(),
        k_out.clone().into_array_arg(),
        tokens as u32,
        seq as u32,
        places as u32,
        norms.eps,
        heads,
        kv_heads,
        head_dim,
        norms.there,
        units,
        dtypes,
    );
    [q_out, k_out]
}
