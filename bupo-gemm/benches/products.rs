//! Products of few rows beside the reading of their weights, and tiles beside the processor's fastest product.

use std::hint::black_box;

use bupo_gemm::{Bf16Unit, PackedWeights, Strided, Weights, packed_products, products, tile_product};
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

/// The three products of a layer in training, and a decoding step's, on the unit for bf16; `BUPO_VECTOR_UNITS` chooses one that is
/// slower than f32 too. Their roofline is the unit's peak, which a product that stays in the cache shows, and the reading of weights.
fn bf16_unit(criterion: &mut Criterion) {
    let Some(unit) = Bf16Unit::chosen() else { return };
    let mut group = criterion.benchmark_group(unit.name());
    group.sample_size(10);
    let (inner, out) = (576, 1536);
    let numbers = |count: usize| -> Vec<f32> { (0..count).map(|i| (i % 97) as f32 * 0.01 - 0.5).collect() };
    let weights = numbers(inner * out);
    group.throughput(Throughput::Bytes((4 * inner * out) as u64));
    group.bench_function("packing weights", |bencher| bencher.iter(|| PackedWeights::new(unit, &weights, inner)));
    let packed = PackedWeights::new(unit, &weights, inner);
    for rows in [1, 8, 32, 128, 512, 2048] {
        let (x, dy) = (numbers(rows * inner), numbers(rows * out));
        group.throughput(Throughput::Elements((2 * rows * inner * out) as u64));
        group.bench_function(BenchmarkId::new("forward", rows), |bencher| {
            bencher.iter(|| black_box(packed_products(&x, &[&packed])));
        });
        group.bench_function(BenchmarkId::new("input gradient", rows), |bencher| {
            bencher.iter(|| black_box(packed.input_gradient(&dy)));
        });
        group.bench_function(BenchmarkId::new("weight gradient", rows), |bencher| {
            bencher.iter(|| black_box(unit.weight_gradient(&dy, out, &x, inner)));
        });
    }
    let small = numbers(32 * 256);
    let cached = PackedWeights::new(unit, &small, 256);
    group.throughput(Throughput::Elements((2 * 32 * 32 * 256) as u64));
    group.bench_function("32 x 256 x 32 in the cache", |bencher| bencher.iter(|| packed_products(&small, &[&cached])));
    group.finish();
}

criterion_group!(benches, few_rows, tiles, bf16_unit);
criterion_main!(benches);
