//! The same numbers on every device: log-probs, entropies, divergences, sampled tokens, gradients and updates.
#![allow(clippy::unwrap_used)] // A test that fails says where.

use bupo::models::ComputeDtype;
use bupo::rl::DeviceNumbers;
use burn::backend::{Flex, NdArray};
use burn::tensor::backend::Backend;

fn assert_same<B: Backend>(dtype: ComputeDtype, device: &B::Device) {
    let reference = DeviceNumbers::on::<Flex>(ComputeDtype::F32, &Default::default()).unwrap();
    for difference in reference.compare(&DeviceNumbers::on::<B>(dtype, device).unwrap()) {
        println!("{}: {:.1e} of {:.0e}", difference.what, difference.largest, difference.allowed);
        assert!(difference.is_rounding(), "{difference:?}");
    }
}

#[test]
fn the_cpu_gives_the_same_bits_again() {
    let computed = || DeviceNumbers::on::<Flex>(ComputeDtype::F32, &Default::default()).unwrap();
    assert_eq!(computed(), computed());
}

#[test]
fn ndarray_agrees_with_the_cpu() {
    assert_same::<NdArray>(ComputeDtype::F32, &Default::default());
}

#[test]
fn layers_that_compute_in_bf16_agree_to_its_precision() {
    assert_same::<Flex>(ComputeDtype::Bf16, &Default::default());
}
