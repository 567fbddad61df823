//! Products of few rows beside the reading of their weights, and tiles beside the processor's fastest product.

use std::hint::black_box;

use bupo_gemm::{Strided, Weights, products, tile_product};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;

fn few_rows(criterion: &mut Criterion) {
    let (inner, out) = (576, 49_152);
    let weights: Vec<f32> = (0..inner * out).map(|i| (i % 97) as f32 * 0.01).collect();
    let halves: Vec<bf16> = weights.iter().map(|w| bf16::from_f32(*w)).collect();
    let mut group = criterion.benchmark_group("products");
    group.sample_size(10);
    // The floor of a product of one row.
    group.throughput(Throughput::Elements((2 * inner * out) as u64));
    group.bench_function("sum of the weights", |bencher| bencher.iter(|| weights.iter().sum::<f32>()));
    for rows in [1, 8, 32, 64, 256] {
        let x = vec![0.5_f32; rows * inner];
        group.throughput(Throughput::Elements((2 * rows * inner * out) as u64));
        group.bench_with_input(BenchmarkId::new("f32", rows), &x, |bencher, x| {
            bencher.iter(|| black_box(products(x, inner, &[Weights::F32(&weights)])));
        });
        group.bench_with_input(BenchmarkId::new("bf16", rows), &x, |bencher, x| {
            bencher.iter(|| black_box(products(x, inner, &[Weights::Bf16(&halves)])));
        });
    }
    group.finish();
}

fn tiles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tiles");
    for [rows, inner, columns] in [[56, 64, 256], [56, 256, 64], [64, 128, 512]] {
        let (a, b) = (vec![0.5_f32; rows * inner], vec![0.25_f32; inner * columns]);
        let mut c = vec![0.0_f32; rows * columns];
        group.throughput(Throughput::Elements((2 * rows * inner * columns) as u64));
        group.bench_function(format!("{rows} x {inner} x {columns}"), |bencher| {
            bencher.iter(|| {
                let a = Strided { values: &a, row: inner, column: 1 };
                tile_product([rows, inner, columns], a, (&b, columns), (&mut c, columns), false);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, few_rows, tiles);
criterion_main!(benches);
