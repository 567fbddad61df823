//! AdamW, the gradient's norm, and the embedding's gradient.

use bupo_core::kernels::{self, AdamWStep};
use bupo_core::token_tensor;
use bupo_gpu::AdamWNumbers;
use burn::backend::{Flex, Wgpu};
use burn::tensor::{DType, Tensor};

use super::{ROWS, WIDTH, both, near, near_values, with_device};

#[test]
fn optimizer() {
    with_device(|dtype| {
        let shape = [ROWS, WIDTH];
        let ((p, cp), (g, cg), (m, cm), (v, cv)) = (
            both(shape, 0.5, DType::F32),
            both(shape, 8.0, DType::F32),
            both(shape, 2.0, DType::F32),
            both(shape, 7.0, DType::F32),
        );
        let squared = |x: Tensor<Flex, 2>| x.clone() * x;
        let cv = squared(cv);
        drop(v);
        let v = Tensor::<Wgpu, 2>::from_data(cv.to_data(), &Default::default());
        let (learning_rate, beta1, beta2, epsilon, weight_decay, scale) = (0.1, 0.9, 0.99, 1e-8, 0.1, 0.5);
        let step = AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, scale, step: 3 };
        let numbers_of = AdamWNumbers {
            scale: scale as f32,
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            size: (learning_rate / (1.0 - beta1.powi(3))) as f32,
            root_factor: (1.0 / (1.0 - beta2.powi(3)).sqrt()) as f32,
            epsilon: epsilon as f32,
            kept: (1.0 - learning_rate * weight_decay) as f32,
        };
        let kept = p.clone();
        let (p, m, v) = bupo_gpu::adamw(p, g, m, v, &numbers_of);
        let before = cp.clone();
        let (cp, cm, cv) = kernels::adamw(cp, cg, cm, cv, &step);
        near("weights", DType::F32, p, cp);
        near("first moments", DType::F32, m, cm);
        near("second moments", DType::F32, v, cv);
        near("shared weights", DType::F32, kept, before);

        let tensors =
            [(40_001, 0.3), (5, 0.6), (0, 0.0), (16_384, 0.9)].map(|(count, seed)| both([count], seed, DType::F32));
        let (ours, cpu): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        let sum = kernels::sum_of_all_squares(cpu);
        near_values("squares", DType::F32, &[bupo_gpu::sum_of_squares(ours)], &[sum]);

        let tokens: Vec<u32> = (0..ROWS).map(|i| (i * i % 11) as u32).collect();
        let ((table, ctable), (rows, crows)) = (both([13, WIDTH], 0.8, DType::F32), both(shape, 0.2, dtype));
        let ours = bupo_gpu::add_rows(table, token_tensor(&tokens, &Default::default()), rows);
        near("embedding", dtype, ours, kernels::add_rows(ctable, token_tensor(&tokens, &Default::default()), crows));
    });
}
