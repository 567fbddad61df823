//! Matrix products on CPUs that a language model needs and general libraries are slow at.
//!
//! [`products`] multiplies few rows by weights as a checkpoint stores them, `[out, in]`, without packing them: such a
//! product is limited by the speed at which weights are read. [`tile_product`] multiplies small strided matrices that
//! stay in the cache, as attention does.
//!
//! Every element is a sum in one fixed order, which depends neither on the number of threads nor on the number of rows.

mod columns;
mod dot;
mod products;
mod tile;
mod units;

pub use products::{Weights, products};
pub use tile::{Strided, tile_product};
pub use units::vector_units;
