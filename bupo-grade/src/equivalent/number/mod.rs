//! Exact rationals and complex balls: numbers with a bound of their error.
//!
//! Own code: no pure-Rust library with a permissive licence has ball arithmetic with complex elementary functions and a
//! bound on the work of every operation.

mod ball;
mod complex;
mod elementary;
mod exact;
mod fuel;
mod function;
mod magnitude;
mod value;

pub(crate) use ball::Working;
pub(crate) use exact::Exact;
pub(crate) use fuel::Fuel;
pub(crate) use function::Function;
pub(crate) use value::{Number, Verdict};
