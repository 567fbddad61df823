//! Sampling from rows of logits, and their best tokens.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{UNITS, cube_max, cube_sum, cubes, empty};
use crate::restrict::{RestrictionArgs, Restrictions, restrict, weight};
use crate::runtime::{give, on_runtime, take};

/// Below every logit.
const LOWEST: f32 = -1e30;
/// The largest f32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;
/// Numbers per token: its id, its log-prob, the sum of all weights.
const WIDTH: usize = 3;

/// The largest logit of a row.
#[cube]
fn row_max(logits: &Array<f32>, base: usize, #[comptime] vocab: usize, #[comptime] units: usize) -> f32 {
    let mut largest = f32::cast_from(LOWEST);
    let mut i = UNIT_POS as usize;
    while i < vocab {
        largest = max(largest, logits[base + i]);
        i += units;
    }
    cube_max(largest, units)
}

/// The sum of the weights of a row.
#[cube]
fn row_sum(logits: &Array<f32>, base: usize, largest: f32, #[comptime] vocab: usize, #[comptime] units: usize) -> f32 {
    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < vocab {
        sum += f32::exp(logits[base + i] - largest);
        i += units;
    }
    cube_sum(sum, units)
}

/// A cube a row. Weights are summed in blocks of as many tokens as there are units, then within the block of the draw.
#[cube(launch)]
fn sample_kernel(
    logits: &Array<f32>,
    uniforms: &Array<f32>,
    out: &mut Array<f32>,
    rows: u32,
    draws: u32,
    top_k: f32,
    top_p: f32,
    log_min_p: f32,
    #[comptime] restrictions: RestrictionArgs,
    #[comptime] vocab: usize,
    #[comptime] units: usize,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let base = row * vocab;
    let blocks = comptime!(vocab.div_ceil(units));
    let largest = row_max(logits, base, vocab, units);
    let left_over = restrict(logits, base, largest, top_k, top_p, log_min_p, restrictions, vocab, units);
    let mut sums = SharedMemory::<f32>::new(blocks);
    let mut weights = SharedMemory::<f32>::new(units);
    let mut block = unit;
    while block < blocks {
        let mut sum = 0.0f32;
        let mut i = block * units;
        let end = i + units;
        while i < end {
            if i < vocab {
                sum += weight(logits[base + i], i, largest, left_over, restrictions);
            }
            i += 1;
        }
        sums[block] = sum;
        block += units;
    }
    sync_cube();
    let mut total = 0.0f32;
    for block in 0..blocks {
        total += sums[block];
    }
    // Log-probs are those of the unrestricted policy.
    let mut all = total;
    if comptime!(restrictions.any()) {
        all = row_sum(logits, base, largest, vocab, units);
    }
    let mut draw = 0u32;
    while draw < draws {
        let place = row * draws as usize + draw as usize;
        let left = total * uniforms[place];
        // Every unit finds the same block.
        let mut chosen = 0usize;
        let mut before = 0.0f32;
        let mut end = 0.0f32;
        for block in 0..blocks {
            end += sums[block];
            if end <= left {
                chosen += 1;
                before = end;
            }
        }
        let first = chosen * units;
        let mut own = 0.0f32;
        if first + unit < vocab {
            own = weight(logits[base + first + unit], first + unit, largest, left_over, restrictions);
        }
        weights[unit] = own;
        sync_cube();
        if unit == 0 {
            let mut last = 0.0f32;
            for i in 0..units {
                last += weights[i];
            }
            // With rounding, the draw can fall behind the block's last weight; it belongs to that weight.
            let within = min(left - before, last * f32::cast_from(BELOW_ONE));
            let mut token = first;
            let mut end = 0.0f32;
            for i in 0..units {
                end += weights[i];
                if end <= within {
                    token += 1;
                }
            }
            if token >= vocab {
                token = vocab - 1;
            }
            let to = place * WIDTH;
            out[to] = f32::cast_from(token);
            out[to + 1] = logits[base + token] - largest - f32::ln(all);
            out[to + 2] = all;
        }
        sync_cube();
        draw += 1;
    }
}

/// A cube a row: the first of its largest logits.
#[cube(launch)]
fn best_kernel(
    logits: &Array<f32>,
    out: &mut Array<f32>,
    rows: u32,
    #[comptime] vocab: usize,
    #[comptime] units: usize,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let base = row * vocab;
    let largest = row_max(logits, base, vocab, units);
    let mut sum = 0.0f32;
    // Ids are below 2^24, so they are exact.
    let mut after_first = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < vocab {
        let logit = logits[base + i];
        sum += f32::exp(logit - largest);
        if logit == largest {
            after_first = max(after_first, f32::cast_from(vocab - i));
        }
        i += units;
    }
    let total = cube_sum(sum, units);
    let after_first = cube_max(after_first, units);
    if UNIT_POS == 0 {
        let to = row * WIDTH;
        out[to] = f32::cast_from(vocab) - after_first;
        out[to + 1] = 0.0f32 - f32::ln(total);
        out[to + 2] = total;
    }
}

/// Samples from each row of f32 `logits` `[rows, vocab]` once per uniform in `[0, 1)` of `[rows, draws]`, by inverting the
/// cumulative distribution: `[rows, draws * 3]`, each draw being the token, its log-prob, and the sum of
/// `exp(logit - max)`, which is not finite if a logit is not. With `restrictions` among the tokens that they leave; log-prob and sum
/// are those of all. One launch.
pub fn sample_rows<B: Backend>(
    logits: Tensor<B, 2>,
    uniforms: Tensor<B, 2>,
    restrictions: Option<Restrictions>,
) -> Tensor<B, 2> {
    let restrictions = restrictions.unwrap_or(Restrictions::NONE);
    on_runtime!(B, R, give(sample(take::<B, R, 2>(logits), take::<B, R, 2>(uniforms), restrictions)))
}

fn sample<R: CubeRuntime>(logits: CubeTensor<R>, uniforms: CubeTensor<R>, restrictions: Restrictions) -> CubeTensor<R> {
    let ([rows, vocab], [_, draws]) = (logits.meta.shape().dims(), uniforms.meta.shape().dims());
    let out = empty(&logits, Shape::new([rows, draws * WIDTH]), DType::F32);
    sample_kernel::launch::<R>(
        &out.client,
        cubes(rows),
        CubeDim::new_1d(UNITS as u32),
        logits.into_array_arg(),
        uniforms.into_array_arg(),
        out.clone().into_array_arg(),
        rows as u32,
        draws as u32,
        restrictions.top_k as f32,
        restrictions.top_p,
        restrictions.min_p.ln(),
        restrictions.args(vocab),
        vocab,
        UNITS,
    );
    out
}

/// The most probable token of each row of f32 `logits` `[rows, vocab]`, the first one on a tie: `[rows, 3]`, as
/// [`sample_rows`] gives it. One launch.
pub fn best_tokens<B: Backend>(logits: Tensor<B, 2>) -> Tensor<B, 2> {
    on_runtime!(B, R, give(best(take::<B, R, 2>(logits))))
}

fn best<R: CubeRuntime>(logits: CubeTensor<R>) -> CubeTensor<R> {
    let [rows, vocab] = logits.meta.shape().dims();
    let out = empty(&logits, Shape::new([rows, WIDTH]), DType::F32);
    best_kernel::launch::<R>(
        &out.client,
        cubes(rows),
        CubeDim::new_1d(UNITS as u32),
        logits.into_array_arg(),
        out.clone().into_array_arg(),
        rows as u32,
        vocab,
        UNITS,
    );
    out
}
