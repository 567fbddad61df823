//! Stochastic rounding to bf16: up or down with probabilities by which it is right on average (arXiv 1502.02551, section 3).
//! The random numbers are a function of a counter, so that they depend on neither the device nor the number of processes.

use burn::tensor::{DType, ElementConversion, Int, Tensor, backend::Backend, bf16};

/// Bits of an f32 that bf16 leaves out.
const LOW_BITS: u32 = 16;

/// Names the random numbers of one parameter's step.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// The run's seed.
    pub seed: u64,
    /// The parameter's id.
    pub parameter: u64,
    /// The index in the parameter of the first number that is rounded: not 0 if processes share it out.
    pub offset: usize,
}

/// What is rounded in a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rounded {
    Weights,
    First,
    Second,
}

/// The random numbers of one tensor's rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    key: [u32; 2],
    offset: u32,
}

impl Noise {
    pub(super) fn stream(&self, step: usize, rounded: Rounded) -> Stream {
        let parts = [self.parameter, step as u64, rounded as u64];
        let key = parts.into_iter().fold(splitmix64(self.seed), |key, part| splitmix64(key ^ part));
        Stream { key: [key as u32, (key >> 32) as u32], offset: self.offset as u32 }
    }
}

impl Stream {
    /// 16 random bits for the number at an index.
    #[inline(always)]
    pub(super) fn bits(self, index: usize) -> u32 {
        let counter = self.offset.wrapping_add(index as u32);
        fmix32(fmix32(counter ^ self.key[0]).wrapping_add(self.key[1])) >> LOW_BITS
    }

    /// Rounds numbers, the first of which is at `start`.
    #[inline(always)]
    pub(super) fn round(self, start: usize, values: &[f32], rounded: &mut [bf16]) {
        for (i, (rounded, value)) in rounded.iter_mut().zip(values).enumerate() {
            // To the next number away from 0 if the sum carries; the bits of infinities have nothing to carry into.
            let bits = value.to_bits();
            let sum = bits.wrapping_add(self.bits(start + i));
            let high = if value.is_finite() { sum } else { bits };
            *rounded = if value.is_nan() { bf16::NAN } else { bf16::from_bits((high >> LOW_BITS) as u16) };
        }
    }

    /// The same by tensor operations, in f32.
    pub(super) fn round_tensor<B: Backend>(self, values: Tensor<B, 1>) -> Tensor<B, 1> {
        // Takes a number of bf16's 8 bits to its neighbour when rounded, also across a power of two.
        const STEP: f32 = (1.0 + 1.0 / 128.0) / 256.0;
        let to_nearest = |values: Tensor<B, 1>| values.cast(DType::BF16).cast(DType::F32);
        let share = self.bits_tensor::<B>(values.dims()[0], &values.device()) / (1_u32 << LOW_BITS) as f32;
        let size = values.clone().abs();
        let nearest = to_nearest(size.clone());
        let is_below = nearest.clone().lower_equal(size.clone());
        let low = to_nearest(nearest.clone() * (1.0 - STEP)).mask_where(is_below.clone(), nearest.clone());
        let high = nearest.clone().mask_where(is_below, to_nearest(nearest * (1.0 + STEP)));
        let part = (size - low.clone()) / (high.clone() - low.clone());
        let rounded = low.mask_where((part + share).greater_equal_elem(1.0), high);
        rounded.clone().mask_where(values.lower_elem(0.0), -rounded)
    }

    /// The random bits as numbers in f32.
    fn bits_tensor<B: Backend>(self, count: usize, device: &B::Device) -> Tensor<B, 1> {
        let counters = Tensor::<B, 1, Int>::arange(0..count as i64, (device, DType::I32));
        let counters = xor(counters.add_scalar(self.offset as i32), self.key[0]);
        let mixed = fmix32_tensor(fmix32_tensor(counters).add_scalar(self.key[1] as i32));
        shifted(mixed, LOW_BITS).float().cast(DType::F32)
    }
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014).
fn splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The finalizer of MurmurHash3.
#[inline(always)]
fn fmix32(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

fn fmix32_tensor<B: Backend>(x: Tensor<B, 1, Int>) -> Tensor<B, 1, Int> {
    let x = x.clone().bitwise_xor(shifted(x, 16)).mul_scalar(0x85eb_ca6b_u32 as i32);
    let x = x.clone().bitwise_xor(shifted(x, 13)).mul_scalar(0xc2b2_ae35_u32 as i32);
    x.clone().bitwise_xor(shifted(x, 16))
}

/// A shift to the right that fills up with zeros.
fn shifted<B: Backend>(x: Tensor<B, 1, Int>, bits: u32) -> Tensor<B, 1, Int> {
    x.bitwise_right_shift_scalar((bits as i32).elem()).bitwise_and_scalar(((u32::MAX >> bits) as i32).elem())
}

fn xor<B: Backend>(x: Tensor<B, 1, Int>, with: u32) -> Tensor<B, 1, Int> {
    x.bitwise_xor_scalar((with as i32).elem())
}
