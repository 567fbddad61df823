//! Exact rationals and complex balls: numbers with a bound of their error.
//!
//! Own code: the libraries of ball and interval arithmetic (Arb, MPFI) are C code under the LGPL, and none bounds the
//! work of an operation.

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
