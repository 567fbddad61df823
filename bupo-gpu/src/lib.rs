//! Fused kernels for Burn's CUDA and WGPU backends, called from code that is generic over backends.
//!
//! A decoder as a composition of tensor operations is hundreds of kernel launches a layer, and on a GPU small operations
//! cost a launch each. A function here is one or two launches. Its inputs must be tensors of a backend that [`runs`]
//! says yes to; statistics are f32 whatever the dtype. Kernels assume no width of a plane.
#![cfg(any(feature = "wgpu", feature = "cuda"))]

mod adamw;
mod cube;
mod decode_attention;
mod embedding;
mod norm;
#[cfg(feature = "cuda")]
mod product;
mod restrict;
mod rotation;
mod runtime;
mod sample;
mod softmax;
mod squares;
mod swiglu;
mod unembedding;

pub use adamw::{AdamWNumbers, adamw};
pub use decode_attention::{CacheRows, attend_cached};
pub use embedding::add_rows;
pub use norm::{add_rms_norm, add_rms_norm_backward, rms_norm, rms_norm_backward};
#[cfg(feature = "cuda")]
pub use product::matmul;
pub use restrict::Restrictions;
pub use rotation::{HeadGradients, HeadNorms, RotatedHeads, rotate_heads, rotate_heads_backward, rotate_into_cache};
#[cfg(feature = "cuda")]
pub use runtime::is_cuda;
pub use runtime::{runs, turned_on, with_kernels};
pub use sample::{best_tokens, sample_rows};
pub use softmax::{causal_softmax, softmax_backward};
pub use squares::sum_of_squares;
pub use swiglu::{swiglu, swiglu_backward};
pub use unembedding::{SoftmaxState, fold_logits, logit_gradient};
