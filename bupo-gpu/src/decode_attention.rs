//! Attention of one query a row and head over the keys and values of a cache.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{cube_max, cubes, empty};
use crate::runtime::{give, on_runtime, take, take_int};

/// The score of a slot beyond the row.
const OUTSIDE: f32 = -1e30;

/// The keys and values that rows attend to.
#[derive(Debug, Clone)]
pub struct CacheRows<B: Backend> {
    /// `[rows, kv_heads, slots, head_dim]`.
    pub keys: Tensor<B, 4>,
    /// `[rows, kv_heads, slots, head_dim]`.
    pub values: Tensor<B, 4>,
    /// The slot of each row's first token.
    pub starts: Tensor<B, 1, Int>,
    /// The slot after every row's newest token.
    pub end: usize,
}

/// A cube a row and KV head: it reads the keys and values once for all query heads of the group.
#[cube(launch)]
fn attend_cached_kernel<E: Float>(
    q: &Array<E>,
    keys: &Array<E>,
    values: &Array<E>,
    starts: &Array<i32>,
    out: &mut Array<E>,
    rows: u32,
    end: u32,
    slots: u32,
    scale: f32,
    #[comptime] kv_heads: usize,
    #[comptime] group: usize,
    #[comptime] head_dim: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: StorageType,
) {
    let row = CUBE_POS / kv_heads;
    if row >= rows as usize {
        terminate!();
    }
    let kv_head = CUBE_POS % kv_heads;
    let unit = UNIT_POS as usize;
    let end = end as usize;
    // Units share the columns of a value, and beyond that the slots of a tile.
    let parts = comptime!(units / head_dim);
    let part = unit / head_dim;
    let column = unit % head_dim;
    let base = (row * kv_heads + kv_head) * slots as usize * head_dim;
    let first_query = (row * kv_heads + kv_head) * group * head_dim;

    let mut queries = SharedMemory::<f32>::new(comptime!(group * head_dim));
    let mut scores = SharedMemory::<f32>::new(comptime!(group * units));
    let mut totals = SharedMemory::<f32>::new(comptime!(group * units));
    let mut i = unit;
    while i < comptime!(group * head_dim) {
        queries[i] = f32::cast_from(q[first_query + i]) * scale;
        i += units;
    }
    let mut largest = Array::<f32>::new(group);
    let mut total = Array::<f32>::new(group);
    let mut mixed = Array::<f32>::new(group);
    #[unroll]
    for g in 0..group {
        largest[g] = OUTSIDE;
        total[g] = 0.0f32;
        mixed[g] = 0.0f32;
    }
    sync_cube();

    let mut first = u32::cast_from(starts[row]) as usize;
    while first < end {
        // A unit computes the scores of one slot.
        let slot = first + unit;
        let mut dots = Array::<f32>::new(group);
        #[unroll]
        for g in 0..group {
            dots[g] = 0.0f32;
        }
        if slot < end {
            let at = base + slot * head_dim;
            for c in 0..head_dim {
                let key = f32::cast_from(keys[at + c]);
                #[unroll]
                for g in 0..group {
                    dots[g] += key * queries[g * head_dim + c];
                }
            }
        }
        #[unroll]
        for g in 0..group {
            let mut score = f32::cast_from(OUTSIDE);
            if slot < end {
                score = dots[g];
            }
            let before = largest[g];
            let new = max(before, cube_max(score, units));
            let shrink = f32::exp(before - new);
            total[g] *= shrink;
            mixed[g] *= shrink;
            largest[g] = new;
            scores[g * units + unit] = f32::exp(score - new);
        }
        sync_cube();
        if part < parts {
            let mut count = end - first;
            if count > units {
                count = units.runtime();
            }
            let mut j = part;
            while j < count {
                let value = f32::cast_from(values[base + (first + j) * head_dim + column]);
                #[unroll]
                for g in 0..group {
                    let weight = scores[g * units + j];
                    total[g] += weight;
                    mixed[g] += weight * value;
                }
                j += parts;
            }
        }
        sync_cube();
        first += units;
    }
    #[unroll]
    for g in 0..group {
        scores[g * units + unit] = mixed[g];
        totals[g * units + unit] = total[g];
    }
    sync_cube();
    if unit < head_dim {
        #[unroll]
        for g in 0..group {
            let mut sum = 0.0f32;
            let mut weight = 0.0f32;
            for p in 0..parts {
                sum += scores[g * units + p * head_dim + unit];
                weight += totals[g * units + p * head_dim + unit];
            }
            out[first_query + g * head_dim + unit] = E::cast_from(sum / weight);
        }
    }
}

/// `softmax(scale q k^T) v` of queries `[rows, heads * head_dim]` over the slots of each row. One launch. Heads have at most
/// [`Self::MOST_COLUMNS`] columns.
pub fn attend_cached<B: Backend>(q: Tensor<B, 2>, cache: CacheRows<B>, scale: f64) -> Tensor<B, 2> {
    on_runtime!(B, R, {
        let CacheRows { keys, values, starts, end } = cache;
        let cached = [keys, values].map(take::<B, R, 4>);
        give(attend(take::<B, R, 2>(q), cached, take_int::<B, R, 1>(starts), end, scale))
    })
}

fn attend<R: CubeRuntime>(
    q: CubeTensor<R>,
    [keys, values]: [CubeTensor<R>; 2],
    starts: CubeTensor<R>,
    end: usize,
    scale: f64,
) -> CubeTensor<R> {
    let ([rows, width], [_, kv_heads, slots, head_dim]) = (q.meta.shape().dims(), keys.meta.shape().dims());
    let out = empty(&q, Shape::new([rows, width]), q.dtype);
    let (units, dtype) = (head_dim.next_power_of_two().clamp(128, 256), q.dtype.into());
    attend_cached_kernel::launch::<R>(
        &out.client,
        cubes(rows * kv_heads),
        CubeDim::new_1d(units as u32),
        q.into_array_arg(),
        keys.into_array_arg(),
        values.into_array_arg(),
        starts.into_array_arg(),
        out.clone().into_array_arg(),
        rows as u32,
        end as u32,
        slots as u32,
        scale as f32,
        kv_heads,
        width / kv_heads / head_dim,
        head_dim,
        units,
        dtype,
    );
    out
}
