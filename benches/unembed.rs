//! The chunked unembedding: log-probs with entropies, and their gradient.
//!
//! The floor is the matrix products: 2 x tokens x hidden x vocab operations forward, 6 x with the gradient.

use bupo::core::{InternalPolicy, TokenDerivatives};
use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const TOKENS: usize = 512;
const HIDDEN: usize = 512;

fn unembed(criterion: &mut Criterion) {
    let device = Default::default();
    let mut group = criterion.benchmark_group("unembed");
    group.sample_size(10).throughput(Throughput::Elements(TOKENS as u64));
    for vocab in [8_192, 32_768] {
        let normal = Distribution::Normal(0.0, 0.05);
        let states = Tensor::<Flex, 2>::random([TOKENS, HIDDEN], normal, &device);
        let unembedding = Tensor::<Flex, 2>::random([vocab, HIDDEN], normal, &device);
        let targets: Vec<u32> = (0..TOKENS).map(|token| (token * 7919 % vocab) as u32).collect();
        let derivatives = TokenDerivatives { log_probs: vec![1.0 / TOKENS as f32; TOKENS], entropy: None };
        let policy = InternalPolicy::new(states.clone(), unembedding.clone());
        group.bench_function(BenchmarkId::new("matmul_alone", vocab), |b| {
            b.iter(|| states.clone().matmul(unembedding.clone().transpose()));
        });
        group.bench_function(BenchmarkId::new("log_probs", vocab), |b| b.iter(|| policy.token_stats(&targets)));
        group.bench_function(BenchmarkId::new("gradient", vocab), |b| {
            b.iter(|| policy.forward(&targets).backward(&derivatives));
        });
    }
    group.finish();
}

criterion_group!(benches, unembed);
criterion_main!(benches);
