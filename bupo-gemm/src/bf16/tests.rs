//! Every unit against f64, at odd sizes, tails and numbers of threads; AMX emulated where the processor has none.

use half::bf16;

use super::unit::Kind;
use super::{Bf16Unit, PackedWeights, emulated_amx, packed_products};

/// The units that can be run here.
fn units() -> Vec<Bf16Unit> {
    emulated_amx::install();
    // SAFETY: the instructions of tiles are the processor's or emulated.
    let amx = unsafe { Bf16Unit::assumed(Kind::Amx) };
    // SAFETY: the processor has the instructions.
    let avx512 = super::avx512::is_usable().then(|| unsafe { Bf16Unit::assumed(Kind::Avx512) });
    std::iter::once(amx).chain(avx512).collect()
}

fn numbers(count: usize, seed: f64) -> Vec<f32> {
    (0..count).map(|i| (((i as f64 + seed) * 12.9898).sin() * 2.0) as f32).collect()
}

fn rounded(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(bf16::from_f32(*x).to_f32())).collect()
}

/// `a b` in f64 of numbers rounded to bf16, by their elements.
fn exact(
    [rows, inner, columns]: [usize; 3],
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    (0..rows * columns).map(|i| (0..inner).map(|k| a(i / columns, k) * b(k, i % columns)).sum()).collect()
}

fn near(ours: &[f32], exact: &[f64], inner: usize, what: &str) {
    assert_eq!(ours.len(), exact.len(), "{what}");
    for (index, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        let tolerance = 4e-6 * (inner as f64 + 8.0);
        assert!((f64::from(*ours) - exact).abs() <= tolerance, "{what}, {index}: {ours} for {exact}");
    }
}

#[test]
fn the_three_products_equal_f64_at_every_size() {
    for unit in units() {
        for rows in [1, 2, 5, 7, 8, 9, 15, 16, 17, 31, 33, 70] {
            for (inner, out) in [(1, 1), (2, 3), (7, 33), (31, 16), (32, 17), (33, 32), (64, 48), (100, 65), (160, 7)] {
                let what = format!("{}, {rows} x {inner} x {out}", unit.name());
                let (x, w, v) = (numbers(rows * inner, 0.1), numbers(out * inner, 5.3), numbers(3 * inner, 9.0));
                let dy = numbers(rows * out, 2.7);
                let [rx, rw, rv, rdy] = [&x, &w, &v, &dy].map(|values| rounded(values));
                let packed = [&w, &v].map(|weights| PackedWeights::new(unit, weights, inner));
                let results = packed_products(&x, &[&packed[0], &packed[1]]);
                let expected = exact([rows, inner, out], |i, k| rx[i * inner + k], |k, j| rw[j * inner + k]);
                near(&results[0], &expected, inner, &what);
                let expected = exact([rows, inner, 3], |i, k| rx[i * inner + k], |k, j| rv[j * inner + k]);
                near(&results[1], &expected, inner, &what);
                let expected = exact([rows, out, inner], |i, k| rdy[i * out + k], |k, j| rw[k * inner + j]);
                near(&packed[0].input_gradient(&dy), &expected, out, &format!("{what}, d x"));
                let expected = exact([out, rows, inner], |i, k| rdy[k * out + i], |k, j| rx[k * inner + j]);
                near(&unit.weight_gradient(&dy, out, &x, inner), &expected, rows, &format!("{what}, d w"));
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_for_any_number_of_rows_and_threads() {
    for unit in units() {
        let (inner, out) = (75, 41);
        let rows = if unit.name() == "amx_bf16" { 90 } else { 1100 };
        let (x, w, dy) = (numbers(rows * inner, 0.1), numbers(out * inner, 5.3), numbers(rows * out, 3.0));
        let packed = PackedWeights::new(unit, &w, inner);
        let all = packed_products(&x, &[&packed]).remove(0);
        let (dx, dw) = (packed.input_gradient(&dy), unit.weight_gradient(&dy, out, &x, inner));
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for rows in [1, 5, 40, rows] {
                let some = pool.install(|| packed_products(&x[..rows * inner], &[&packed])).remove(0);
                assert!(some == all[..rows * out], "{}, {rows} rows, {threads} threads", unit.name());
            }
            assert!(pool.install(|| packed.input_gradient(&dy)) == dx, "{}, {threads} threads", unit.name());
            let again = pool.install(|| unit.weight_gradient(&dy, out, &x, inner));
            assert!(again == dw, "{}, {threads} threads", unit.name());
        }
    }
}

#[test]
fn numbers_that_are_not_finite_stay_so() {
    for unit in units() {
        let mut x = vec![1.0; 3 * 40];
        (x[5], x[47]) = (f32::NAN, f32::INFINITY);
        let y = packed_products(&x, &[&PackedWeights::new(unit, &vec![0.5; 17 * 40], 40)]).remove(0);
        assert!(y[..17].iter().all(|y| y.is_nan()), "{}: {y:?}", unit.name());
        assert!(y[17..34].iter().all(|y| *y == f32::INFINITY) && y[34..] == [20.0; 17], "{}: {y:?}", unit.name());
    }
}

#[test]
fn a_unit_is_compared_with_exact_sums_before_it_is_used() {
    assert!(units().into_iter().all(Bf16Unit::is_right));
}

#[test]
fn tiles_are_released_after_a_product() {
    let unit = units()[0];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| packed_products(&numbers(40 * 40, 0.3), &[&PackedWeights::new(unit, &numbers(40 * 40, 0.7), 40)]));
    let held = pool.broadcast(|_| emulated_amx::is_configured());
    assert_eq!(held, [false, false]);
}

#[test]
fn weights_take_two_bytes_a_number() {
    let packed = PackedWeights::new(units()[0], &numbers(48 * 64, 0.1), 64);
    assert_eq!((packed.out(), packed.bytes()), (48, 2 * 48 * 64));
}
