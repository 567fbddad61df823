//! The norm and rotation of query and key heads.

use burn::tensor::{Tensor, backend::Backend};

use super::rope::{RopeTable, apply_rope, apply_rope_backward};
use super::{rms_norm, rms_norm_backward};

/// The norms of query and key heads, where a model has them.
#[derive(Debug, Clone)]
pub struct HeadNorms<B: Backend> {
    /// The weight of the queries' norm, `[head_dim]`.
    pub q: Tensor<B, 1>,
    /// The weight of the keys' norm, `[head_dim]`.
    pub k: Tensor<B, 1>,
    /// Added to the mean square.
    pub eps: f64,
}

/// Queries `[batch * seq, heads * head_dim]` and keys `[batch * seq, kv_heads * head_dim]` after norm and rotation,
/// `[batch, heads, seq, head_dim]` and `[batch, kv_heads, seq, head_dim]`.
pub fn rotated_heads<B: Backend>(
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    norms: Option<&HeadNorms<B>>,
    table: &RopeTable<B>,
    batch: usize,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if let Some(table) = table.packed() {
        let norms = norms.map(HeadNorms::of_gpu);
        let rotated = bupo_gpu::rotate_heads(q, k, norms.as_ref(), table, batch);
        return (rotated.q, rotated.k);
    }
    let head_dim = table.head_dim();
    let rotated = |x: Tensor<B, 2>, weight: Option<&Tensor<B, 1>>, eps| {
        let [rows, width] = x.dims();
        let x = match weight {
            Some(weight) => {
                let heads = x.reshape([rows * width / head_dim, head_dim]);
                rms_norm(heads, weight.clone(), eps).reshape([rows, width])
            }
            None => x,
        };
        apply_rope(x, table, batch, head_dim)
    };
    let eps = norms.map_or(0.0, |norms| norms.eps);
    (rotated(q, norms.map(|norms| &norms.q), eps), rotated(k, norms.map(|norms| &norms.k), eps))
}

/// The gradient with respect to heads `x` `[batch * seq, heads * head_dim]` before norm and rotation, and that with respect
/// to the weight of their norm, from the gradient `dy` `[batch, heads, seq, head_dim]`.
pub fn head_backward<B: Backend>(
    dy: Tensor<B, 4>,
    x: Tensor<B, 2>,
    norm: Option<(Tensor<B, 1>, f64)>,
    table: &RopeTable<B>,
) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if let Some(table) = table.packed() {
        return bupo_gpu::rotate_heads_backward(dy, x, norm, table);
    }
    let d = apply_rope_backward(dy, table);
    let Some((weight, eps)) = norm else { return (d, None) };
    let ([rows, width], head_dim) = (x.dims(), table.head_dim());
    let heads = [rows * width / head_dim, head_dim];
    let (d_x, d_weight) = rms_norm_backward(x.reshape(heads), weight, eps, d.reshape(heads));
    (d_x.reshape([rows, width]), Some(d_weight))
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl<B: Backend> HeadNorms<B> {
    pub(crate) fn of_gpu(&self) -> bupo_gpu::HeadNorms<B> {
        bupo_gpu::HeadNorms { q: self.q.clone(), k: self.k.clone(), eps: self.eps }
    }
}
