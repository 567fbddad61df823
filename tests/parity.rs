//! The same numbers on every device: log-probs, entropies, divergences, sampled tokens, gradients and updates.
#![allow(clippy::unwrap_used)] // A test that fails says where.

use bupo::rl::Computed;
use burn::backend::{Flex, NdArray};
use burn::tensor::backend::Backend;

fn assert_same<B: Backend>(device: &B::Device) {
    let reference = Computed::on::<Flex>(&Default::default()).unwrap();
    for difference in reference.compare(&Computed::on::<B>(device).unwrap()) {
        println!("{}: {:.1e} of {:.0e}", difference.what, difference.largest, difference.allowed);
        assert!(difference.is_rounding(), "{difference:?}");
    }
}

#[test]
fn the_cpu_gives_the_same_bits_again() {
    let computed = || Computed::on::<Flex>(&Default::default()).unwrap();
    assert_eq!(computed(), computed());
}

#[test]
fn ndarray_agrees_with_the_cpu() {
    assert_same::<NdArray>(&Default::default());
}
