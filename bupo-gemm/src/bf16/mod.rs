//! Products of numbers rounded to bf16, with sums in f32, on the units that processors have for them.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod emulated_amx;
mod product;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests;
mod tiles;
mod unit;

use product::Right;
use tiles::{Matrix, Packed};

pub use unit::Bf16Unit;

/// A weight matrix `[out, in]`, rounded to bf16 and packed for a unit: two bytes a number, both sides filled up to whole tiles (16
/// rows of 32).
#[derive(Debug)]
pub struct PackedWeights {
    unit: Bf16Unit,
    packed: Packed,
}

impl PackedWeights {
    /// Packs `weights`, row-major rows of `inner` numbers.
    ///
    /// # Panics
    /// If the rows are not whole, or `inner` is 0.
    pub fn new(unit: Bf16Unit, weights: &[f32], inner: usize) -> Self {
        Self { unit, packed: Packed::right_transposed(matrix(weights, inner)) }
    }

    /// The number of rows, `out`.
    pub fn out(&self) -> usize {
        self.packed.size
    }

    /// The numbers in a row, `in`.
    pub fn inner(&self) -> usize {
        self.packed.inner
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// The gradient with respect to the input, `dy w`, of `dy` `[rows, out]`. All cores share the work.
    ///
    /// # Panics
    /// If the rows are not whole, or there are no weights.
    pub fn input_gradient(&self, dy: &[f32]) -> Vec<f32> {
        let left = Packed::left(matrix(dy, self.out()));
        product::products(self.unit, &left, &[Right::Transposed(&self.packed)]).remove(0)
    }
}

/// `x w^T` for each of `weights`, of `x` `[rows, inner]`. All cores share the work.
///
/// # Panics
/// If the lengths do not fit.
pub fn packed_products(x: &[f32], weights: &[&PackedWeights]) -> Vec<Vec<f32>> {
    let Some(first) = weights.first() else { return Vec::new() };
    let left = Packed::left(matrix(x, first.packed.inner));
    let rights: Vec<Right<'_>> = weights.iter().map(|weights| Right::Packed(&weights.packed)).collect();
    product::products(first.unit, &left, &rights)
}

impl Bf16Unit {
    /// The gradient of weights, `dy^T x`, of `dy` `[rows, out]` and `x` `[rows, inner]`. All cores share the work.
    ///
    /// # Panics
    /// If the rows are not whole, not as many, or there are none.
    pub fn weight_gradient(self, dy: &[f32], out: usize, x: &[f32], inner: usize) -> Vec<f32> {
        let (left, right) = (Packed::left_transposed(matrix(dy, out)), Packed::right(matrix(x, inner)));
        product::products(self, &left, &[Right::Packed(&right)]).remove(0)
    }
}

fn matrix(values: &[f32], width: usize) -> Matrix<'_> {
    assert!(width > 0 && values.len().is_multiple_of(width), "whole rows");
    Matrix { values, rows: values.len() / width, width }
}
