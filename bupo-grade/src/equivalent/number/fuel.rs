//! Bounds the work spent on one comparison, so that the verdict depends on the input and never on the clock.

use std::cell::Cell;

/// A budget of work; one unit is about one multiplication of machine words.
pub(crate) struct Fuel(Cell<u64>);

impl Fuel {
    pub(crate) fn new(units: u64) -> Self {
        Self(Cell::new(units))
    }

    /// Takes `units` out of the budget; `None` once it is spent.
    pub(crate) fn burn(&self, units: u64) -> Option<()> {
        let left = self.0.get().checked_sub(units);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ())
    }

    /// Takes what an operation on numbers of `a` and `b` bits costs.
    pub(crate) fn burn_bits(&self, a: u64, b: u64) -> Option<()> {
        self.burn(250 + (a / 64 + 1).saturating_mul(b / 64 + 1))
    }
}
