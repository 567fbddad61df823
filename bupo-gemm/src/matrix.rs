//! Products of large matrices, by the `gemm` crate into memory that is written once.

use gemm::Parallelism;

use crate::tile::Strided;

/// Multiplications below which one core is as fast as all.
const FEW: usize = 1 << 18;

/// `a b` of `a` `[rows, inner]` and `b` `[inner, columns]`, row-major; `size` is `[rows, inner, columns]`. The rounding of a sum
/// may depend on the sizes.
///
/// # Panics
/// If a matrix does not have as many elements.
pub fn matrix_product(size: [usize; 3], a: Strided<'_>, b: Strided<'_>) -> Vec<f32> {
    let [rows, inner, columns] = size;
    if rows == 0 || inner == 0 || columns == 0 {
        return vec![0.0; rows * columns];
    }
    let mut product = Vec::with_capacity(rows * columns);
    // SAFETY: the product has room for its elements, and all of them are written.
    unsafe {
        multiply(size, a, b, product.as_mut_ptr(), false);
        product.set_len(rows * columns);
    }
    product
}

/// Adds [`matrix_product`] to `sum` `[rows, columns]`, row-major.
///
/// # Panics
/// If a matrix does not have as many elements.
pub fn add_matrix_product(size: [usize; 3], a: Strided<'_>, b: Strided<'_>, sum: &mut [f32]) {
    let [rows, inner, columns] = size;
    assert_eq!(sum.len(), rows * columns, "the sum has as many elements");
    if rows > 0 && inner > 0 && columns > 0 {
        // SAFETY: the sum has its elements.
        unsafe { multiply(size, a, b, sum.as_mut_ptr(), true) };
    }
}

/// Writes `a b`, of sizes above 0, to `product`, or adds it to what is there with `add`.
///
/// # Safety
/// `product` has room for `rows * columns` elements, which with `add` are there.
unsafe fn multiply(size: [usize; 3], a: Strided<'_>, b: Strided<'_>, product: *mut f32, add: bool) {
    let [rows, inner, columns] = size;
    assert!(a.has(rows, inner) && b.has(inner, columns), "the matrices have as many elements");
    let parallelism = if rows * inner * columns < FEW { Parallelism::None } else { Parallelism::Rayon(0) };
    let [a_row, a_column, b_row, b_column] = [a.row, a.column, b.row, b.column].map(|distance| distance as isize);
    let of_sum = if add { 1.0_f32 } else { 0.0 };
    // SAFETY: both matrices have the elements that are read, and the caller has room for those that are written. `gemm` reads the
    // product only if `read_dst`, here `add`.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            product,
            1,
            columns as isize,
            add,
            a.values.as_ptr(),
            a_column,
            a_row,
            b.values.as_ptr(),
            b_column,
            b_row,
            of_sum,
            1.0_f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_matrices_are_sums_of_products() {
        let numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|i| ((i * 7919) % 97) as f32 * 0.02 - 1.0).collect() };
        for size in [[1, 1, 1], [5, 3, 7], [33, 70, 17], [130, 257, 65], [3, 0, 2], [0, 4, 4]] {
            let [rows, inner, columns] = size;
            let (a, b) = (numbers(rows * inner), numbers(inner * columns));
            for (a_turned, b_turned) in [(false, false), (false, true), (true, false), (true, true)] {
                let strided = |values, turned, rows, columns| {
                    let (row, column) = if turned { (1, rows) } else { (columns, 1) };
                    Strided { values, row, column }
                };
                let (a, b) = (strided(&a[..], a_turned, rows, inner), strided(&b[..], b_turned, inner, columns));
                let product = matrix_product(size, a, b);
                for i in 0..rows {
                    for j in 0..columns {
                        let exact: f64 = (0..inner)
                            .map(|k| {
                                f64::from(a.values[i * a.row + k * a.column])
                                    * f64::from(b.values[k * b.row + j * b.column])
                            })
                            .sum();
                        let difference = (f64::from(product[i * columns + j]) - exact).abs();
                        assert!(difference < 1e-4, "{size:?} at {i}, {j}: {difference}");
                    }
                }
                let mut sum = numbers(rows * columns);
                add_matrix_product(size, a, b, &mut sum);
                for (i, (sum, before)) in sum.iter().zip(numbers(rows * columns)).enumerate() {
                    assert!((sum - before - product[i]).abs() < 1e-4, "{size:?}: {sum} for {before} + {}", product[i]);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "as many elements")]
    fn a_matrix_that_is_too_short_is_refused() {
        let values = [1.0; 5];
        let short = Strided { values: &values, row: 3, column: 1 };
        matrix_product([2, 3, 1], short, Strided { values: &values, row: 1, column: 1 });
    }
}
