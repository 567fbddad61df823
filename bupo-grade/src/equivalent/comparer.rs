//! The state that comparisons of answers share.

use super::number::Fuel;

/// Compares answers within a budget of work.
#[derive(Clone, Copy)]
pub(super) struct Comparer<'a> {
    pub(super) fuel: &'a Fuel,
}
