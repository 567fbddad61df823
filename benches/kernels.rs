//! What a decoder computes besides matrix products, each beside the copy that is its floor: a kernel reads and writes every
//! number once or a few times.

use bupo::core::InternalPolicy;
use bupo::core::kernels::{
    AdamWStep, RopeTable, adamw, attention, attention_backward, causal_tiles, rms_norm, rms_norm_backward, swiglu,
    swiglu_backward,
};
use bupo::core::kv_cache::{CacheRoom, KvCache};
use burn::backend::Flex;
use burn::tensor::{DType, Distribution, Tensor};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const TOKENS: usize = 2048;
const HIDDEN: usize = 512;
const INNER: usize = 1536;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
}

/// A tensor that nobody else holds, as a kernel finds it that works in place.
fn own<const D: usize>(tensor: &Tensor<Flex, D>) -> Tensor<Flex, D> {
    Tensor::from_data(tensor.to_data(), &Default::default())
}

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernels");
    group.sample_size(20);
    let (x, dy, weight) = (random([TOKENS, HIDDEN]), random([TOKENS, HIDDEN]), random([HIDDEN]));
    group.bench_function("copy/512", |b| b.iter(|| own(&x)));
    group.bench_function("norm", |b| {
        b.iter_batched(|| own(&x), |x| rms_norm(x, weight.clone(), 1e-6), BatchSize::LargeInput);
    });
    group.bench_function("norm_backward", |b| {
        b.iter_batched(|| own(&dy), |dy| rms_norm_backward(x.clone(), weight.clone(), 1e-6, dy), BatchSize::LargeInput);
    });
    let (gate, up, d) = (random([TOKENS, INNER]), random([TOKENS, INNER]), random([TOKENS, INNER]));
    group.bench_function("copy/1536", |b| b.iter(|| own(&gate)));
    group.bench_function("swiglu", |b| {
        b.iter_batched(|| own(&gate), |gate| swiglu(gate, up.clone()), BatchSize::LargeInput);
    });
    group.bench_function("swiglu_backward", |b| {
        b.iter_batched(
            || (own(&gate), own(&up), own(&d)),
            |(gate, up, d)| swiglu_backward(gate, up, d),
            BatchSize::LargeInput,
        );
    });
    // The products of a forward pass below the diagonal, two of them, and of a backward pass, five.
    let products = 2.0 * (8 * 8 * 64) as f64 * (256.0 * 257.0 / 2.0);
    let (q, k) = (random([8, 8, 256, 64]), random([8, 4, 256, 64]));
    let (v, d_mixed) = (random([TOKENS, 256]), random([TOKENS, HIDDEN]));
    let tiles = causal_tiles(256, DType::F32, &Default::default());
    group.throughput(Throughput::Elements((2.0 * products) as u64));
    let forward = || attention(q.clone(), k.clone(), v.clone(), &tiles, 0.125);
    group.bench_function("attention", |b| b.iter(forward));
    group.throughput(Throughput::Elements((5.0 * products) as u64));
    let output = forward();
    group.bench_function("attention_backward", |b| {
        let inputs = || (q.clone(), k.clone(), v.clone(), output.clone(), d_mixed.clone());
        b.iter_batched(
            inputs,
            |(q, k, v, output, d)| attention_backward(q, k, v, output, d, &tiles, 0.125),
            BatchSize::LargeInput,
        );
    });
    let step = AdamWStep {
        learning_rate: 1e-6,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        scale: 1.0,
        step: 1,
    };
    group.bench_function("adamw", |b| {
        b.iter_batched(
            || (own(&gate), own(&d), own(&up), own(&up)),
            |(p, g, m, v)| adamw(p, g, m, v, &step),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decoding");
    group.sample_size(20);
    const ROWS: usize = 128;
    for seen in [128, 1024] {
        let mut cache = KvCache::<Flex>::new(1, CacheRoom { rows: ROWS, slots: seen });
        let sources: Vec<(usize, usize)> = vec![(0, seen - 1); ROWS];
        cache.admit(&[(random([1, 4, seen - 1, 64]), random([1, 4, seen - 1, 64]))], &sources);
        let (q, k, v) = (random([ROWS, 8 * 64]), random([ROWS, 4 * 64]), random([ROWS, 4 * 64]));
        let table = RopeTable::new(&[0.1; ROWS * 32], 1.0, 64, 1, DType::F32, &Default::default());
        group.bench_function(BenchmarkId::new("attention", seen), |b| {
            b.iter(|| cache.attend(1, q.clone(), Some([k.clone(), v.clone()]), None, &table, 0.125));
        });
    }
    for vocab in [8_192, 151_936] {
        let policy = InternalPolicy::new(random([ROWS, 64]), random([vocab, 64]));
        let uniforms: Vec<f64> = (0..ROWS).map(|row| (row as f64 + 0.5) / ROWS as f64).collect();
        group.bench_function(BenchmarkId::new("sample", vocab), |b| b.iter(|| policy.sample(&uniforms)));
    }
    group.finish();
}

criterion_group!(benches, kernels, decoding);
criterion_main!(benches);
