//! Moments and weights of any dtype by several processes.

use std::path::PathBuf;

use bupo::models::decoder::{Gradients, named_tensors, parameter_lengths};
use bupo::models::{ModelFiles, load_model};
use bupo::rl::{AdamWSettings, DecoderOptimizer, MomentDtype};
use bupo_collective::{Processes, threads};
use burn::module::ParamId;
use burn::tensor::{DType, Tensor, TensorData};

use crate::MODEL;
use crate::common::B;

/// The weights after three steps by gradients that process 0 has.
fn stepped(size: usize, is_sharded: bool, moments: MomentDtype, weights: DType) -> Vec<Vec<f32>> {
    let settings = AdamWSettings { learning_rate: 1e-3, max_grad_norm: 1e9, moments, ..AdamWSettings::default() };
    std::thread::scope(|scope| {
        let running: Vec<_> = threads(size)
            .into_iter()
            .map(|one| {
                scope.spawn(move || {
                    let processes = Processes::new(Box::new(one), |_| {});
                    let files = ModelFiles::folder(&PathBuf::from(MODEL)).unwrap();
                    let mut decoder =
                        load_model::<B>(&files, &Default::default()).unwrap().decoder.with_layer_weights(weights);
                    let mut optimizer = DecoderOptimizer::new(settings).with_seed(5);
                    if is_sharded {
                        optimizer = optimizer.sharded();
                    }
                    for step in 0..3 {
                        let mut gradients = Gradients::new();
                        for (id, length) in parameter_lengths(&decoder) {
                            let number = |i: usize| ((i + 7 * step) as f32 * 0.7 + id as f32).sin() * 1e-3;
                            let data = TensorData::new((0..length).map(number).collect::<Vec<f32>>(), [length]);
                            if processes.is_first() {
                                gradients.add(ParamId::from(id), Tensor::<B, 1>::from_data(data, &Default::default()));
                            }
                        }
                        optimizer.step(&mut decoder, gradients, &processes).unwrap();
                    }
                    named_tensors(&decoder).iter().map(|tensor| tensor.data.iter::<f32>().collect()).collect()
                })
            })
            .collect();
        let of_each: Vec<Vec<Vec<f32>>> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(of_each.iter().all(|weights| *weights == of_each[0]), "{size} processes have the same weights");
        of_each.into_iter().next().unwrap()
    })
}

#[test]
fn moments_and_weights_of_any_dtype_have_the_same_bits_for_any_number_of_processes() {
    for (moments, weights) in [
        (MomentDtype::F32, DType::F32),
        (MomentDtype::F32, DType::BF16),
        (MomentDtype::Bf16, DType::F32),
        (MomentDtype::EightBit, DType::BF16),
    ] {
        let alone = stepped(1, false, moments, weights);
        for (size, is_sharded) in [(2, false), (2, true), (3, true)] {
            assert!(stepped(size, is_sharded, moments, weights) == alone, "{moments} {weights:?} {size} {is_sharded}");
        }
    }
}
