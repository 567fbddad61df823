//! The norm and rotary embedding of query and key heads, forward and backward, and the cache's new keys and values.

mod backward;
mod cache;
mod forward;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::norm::{inverse_root, row_squares};
use crate::runtime::take;

pub use backward::{HeadGradients, rotate_heads_backward};
pub use cache::rotate_into_cache;
pub use forward::{RotatedHeads, rotate_heads};

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

/// What kernels read of the norms.
struct TakenNorms<R: CubeRuntime> {
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    eps: f32,
    /// Whether there are norms: without them the weights are not read.
    there: bool,
}

impl<R: CubeRuntime> TakenNorms<R> {
    /// Without norms the table stands in for the weights.
    fn new<B: Backend>(norms: Option<&HeadNorms<B>>, table: &CubeTensor<R>) -> Self {
        let Some(norms) = norms else {
            return Self { q: table.clone(), k: table.clone(), eps: 0.0, there: false };
        };
        let [q, k] = [&norms.q, &norms.k].map(|weight| take::<B, R, 1>(weight.clone()));
        Self { q, k, eps: norms.eps as f32, there: true }
    }
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
        inverse = inverse_root(row_squares::<E>(x, from, head_dim, units), eps, head_dim, units);
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
