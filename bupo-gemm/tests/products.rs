//! Products against f64, at odd sizes, tails and numbers of threads.
#![allow(clippy::unwrap_used)]

use bupo_gemm::{Strided, Weights, products, tile_product};
use half::bf16;

fn numbers(count: usize, seed: f64) -> Vec<f32> {
    (0..count).map(|i| (((i as f64 + seed) * 12.9898).sin() * 2.0) as f32).collect()
}

fn near(ours: &[f32], exact: &[f64], inner: usize, what: &str) {
    assert_eq!(ours.len(), exact.len(), "{what}");
    for (index, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        // One long sum in f32, as without vectors, is off by this much.
        let tolerance = 4e-6 * (inner as f64 + 8.0);
        assert!((f64::from(*ours) - exact).abs() <= tolerance, "{what}, {index}: {ours} for {exact}");
    }
}

fn exact(x: &[f32], weights: &[f32], inner: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    x.chunks(inner).flat_map(|x| weights.chunks(inner).map(move |w| dot(x, w))).collect()
}

#[test]
fn products_equal_f64_at_every_size() {
    for rows in [1, 2, 3, 4, 5, 6, 7, 11, 13, 32, 65, 130] {
        for (inner, out) in
            [(1, 1), (7, 3), (16, 4), (17, 5), (31, 16), (64, 17), (100, 33), (576, 70), (1024, 5), (2077, 9)]
        {
            let (x, w) = (numbers(rows * inner, 0.1), numbers(out * inner, 5.3));
            let more = numbers(3 * inner, 9.0);
            let halves: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
            let rounded: Vec<f32> = halves.iter().map(|w| w.to_f32()).collect();
            let results = products(&x, inner, &[Weights::F32(&w), Weights::F32(&more), Weights::Bf16(&halves)]);
            let what = format!("{rows} x {inner} x {out}");
            near(&results[0], &exact(&x, &w, inner), inner, &what);
            near(&results[1], &exact(&x, &more, inner), inner, &what);
            near(&results[2], &exact(&x, &rounded, inner), inner, &format!("bf16, {what}"));
        }
    }
}

#[test]
fn a_row_has_the_same_bits_for_any_number_of_rows_and_threads() {
    for (inner, out) in [(123, 77), (2077, 70)] {
        let (x, w) = (numbers(40 * inner, 0.1), numbers(out * inner, 5.3));
        let all = products(&x, inner, &[Weights::F32(&w)]).remove(0);
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for rows in [1, 5, 6, 40] {
                let some = pool.install(|| products(&x[..rows * inner], inner, &[Weights::F32(&w)])).remove(0);
                assert!(some == all[..rows * out], "{rows} rows of {inner}, {threads} threads");
            }
        }
    }
}

#[test]
fn tiles_equal_f64_at_every_size_and_stride() {
    for rows in [1, 2, 3, 5, 6, 7, 14, 23, 29] {
        for inner in [0, 1, 5, 64] {
            for columns in [1, 7, 16, 17, 31, 32, 33, 70] {
                for (row, column) in [(inner + 3, 1), (1, rows + 2)] {
                    let (b_row, c_row) = (columns + 5, columns + 1);
                    let a = numbers(rows * row.max(1) + inner * column.max(1) + 1, 0.2);
                    let b = numbers(inner * b_row + columns, 3.0);
                    let before = numbers(rows * c_row, 8.0);
                    for add in [false, true] {
                        let mut c = before.clone();
                        let strided = Strided { values: &a, row, column };
                        tile_product([rows, inner, columns], strided, (&b, b_row), (&mut c, c_row), add);
                        for i in 0..rows {
                            let what = format!("{rows} x {inner} x {columns}, row {i}, add {add}");
                            let exact: Vec<f64> = (0..columns)
                                .map(|j| {
                                    let terms = (0..inner)
                                        .map(|k| f64::from(a[i * row + k * column]) * f64::from(b[k * b_row + j]));
                                    let first = if add { f64::from(before[i * c_row + j]) } else { 0.0 };
                                    first + terms.sum::<f64>()
                                })
                                .collect();
                            near(&c[i * c_row..i * c_row + columns], &exact, inner, &what);
                            // Nothing beside the columns is written.
                            assert_eq!(c[i * c_row + columns], before[i * c_row + columns], "{what}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "b has as many elements")]
fn a_tile_outside_its_matrix_is_refused() {
    let a = Strided { values: &[1.0; 4], row: 2, column: 1 };
    tile_product([2, 2, 2], a, (&[1.0; 3], 2), (&mut [0.0; 4], 2), false);
}

/// Runs the other tests of this file with narrower vectors, as on a processor that has no wider ones.
#[test]
fn narrower_vectors_give_the_same() {
    const UNITS: &str = "BUPO_VECTOR_UNITS";
    if std::env::var_os(UNITS).is_some() {
        return;
    }
    for units in ["avx2", "scalar"] {
        let tests = std::process::Command::new(std::env::current_exe().unwrap()).env(UNITS, units).output().unwrap();
        let said = String::from_utf8_lossy(&tests.stdout).into_owned();
        assert!(tests.status.success() && said.contains("products_equal_f64_at_every_size ... ok"), "{units}: {said}");
    }
}
