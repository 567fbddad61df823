//! Matrix products on CPUs that a language model needs and general libraries are slow at.
//!
//! [`products`] multiplies rows by weights as a checkpoint stores them, `[out, in]`, without packing them: a product of few rows
//! is limited by the speed at which weights are read. [`tile_product`] multiplies small strided matrices that
//! stay in the cache, as attention does; [`matrix_product`] large ones, by the `gemm` crate. [`packed_products`] and the gradients beside it multiply numbers rounded to bf16 on the
//! unit that the processor has for them, if it is faster than f32.
//!
//! Every element is a sum in one fixed order, which depends neither on the number of threads nor, except for [`matrix_product`], on the
//! number of rows.

mod bf16;
mod columns;
mod dot;
mod matrix;
mod products;
mod tile;
mod units;

pub use bf16::{Bf16Unit, PackedWeights, packed_products};
pub use matrix::{add_matrix_product, matrix_product};
pub use products::{Weights, products};
pub use tile::{Strided, tile_product};
pub use units::vector_units;
