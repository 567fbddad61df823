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

/// The results of [`heads_backward`].
#[derive(Debug)]
pub struct HeadGradients<B: Backend> {
    /// With respect to the queries, `[batch * seq, heads * head_dim]`.
    pub q: Tensor<B, 2>,
    /// With respect to the keys, `[batch * seq, kv_heads * head_dim]`.
    pub k: Tensor<B, 2>,
    /// With respect to the weights of the queries' and the keys' norm, `[head_dim]`, where there are norms.
    pub weights: Option<[Tensor<B, 1>; 2]>,
}

/// The gradients of [`rotated_heads`] from those of its results, `d_q` `[batch, heads, seq, head_dim]` and `d_k`
/// `[batch, kv_heads, seq, head_dim]`.
pub fn heads_backward<B: Backend>(
    d_q: Tensor<B, 4>,
    d_k: Tensor<B, 4>,
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    norms: Option<&HeadNorms<B>>,
    table: &RopeTable<B>,
) -> HeadGradients<B> {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if let Some(table) = table.packed() {
        let norms = norms.map(HeadNorms::of_gpu);
        let bupo_gpu::HeadGradients { q, k, weights } =
            bupo_gpu::rotate_heads_backward(d_q, d_k, q, k, norms.as_ref(), table);
        return HeadGradients { q, k, weights };
    }
    let [d_q, d_k] = [d_q, d_k].map(|d| apply_rope_backward(d, table));
    let Some(norms) = norms else { return HeadGradients { q: d_q, k: d_k, weights: None } };
    let head_dim = table.head_dim();
    let back = |d: Tensor<B, 2>, x: Tensor<B, 2>, weight: &Tensor<B, 1>| {
        let [rows, width] = x.dims();
        let heads = [rows * width / head_dim, head_dim];
        let (d_x, d_weight) = rms_norm_backward(x.reshape(heads), weight.clone(), norms.eps, d.reshape(heads));
        (d_x.reshape([rows, width]), d_weight)
    };
    let ((q, q_weight), (k, k_weight)) = (back(d_q, q, &norms.q), back(d_k, k, &norms.k));
    HeadGradients { q, k, weights: Some([q_weight, k_weight]) }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl<B: Backend> HeadNorms<B> {
    pub(crate) fn of_gpu(&self) -> bupo_gpu::HeadNorms<B> {
        bupo_gpu::HeadNorms { q: self.q.clone(), k: self.k.clone(), eps: self.eps }
    }
}
