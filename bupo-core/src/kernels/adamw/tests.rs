//! The step against PyTorch and NumPy, the maps against bitsandbytes (`tests/reference/make_optimizer.py`), and loops against tensor operations.

use std::fs;
use std::path::Path;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData, bf16};
use serde::Deserialize;

use super::moment::composed;
use super::stochastic::Rounded;
use super::*;

#[derive(Deserialize)]
struct Reference {
    signed_map: Vec<f32>,
    unsigned_map: Vec<f32>,
    signed: Codes,
    unsigned: Codes,
    zeros: Codes,
    weights: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    f32: State<f32>,
    bf16: State<f32>,
    #[serde(rename = "8bit")]
    eight_bit: State<u8>,
    random_bits: Vec<u32>,
}

#[derive(Deserialize)]
struct Codes {
    values: Vec<f32>,
    codes: Vec<u8>,
    absmax: Vec<f32>,
    restored: Vec<f32>,
}

#[derive(Deserialize)]
struct State<M> {
    weights: Vec<f32>,
    first: Vec<M>,
    second: Vec<M>,
    #[serde(default)]
    first_absmax: Vec<f32>,
    #[serde(default)]
    second_absmax: Vec<f32>,
}

const NOISE: Noise = Noise { seed: 7, parameter: 3, offset: 1000 };

fn reference() -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/optimizer.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn tensor(values: &[f32]) -> Tensor<Flex, 1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Default::default())
}

fn numbers(tensor: Tensor<Flex, 1>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

type StepFn =
    fn(Tensor<Flex, 1>, Tensor<Flex, 1>, [Moment<Flex>; 2], &AdamWStep, &Noise) -> (Tensor<Flex, 1>, [Moment<Flex>; 2]);

/// Weights and moments after the reference's steps.
fn stepped(step_fn: StepFn, weights: DType, moments: MomentDtype, weight_decay: f64) -> (Vec<f32>, [Moment<Flex>; 2]) {
    let Reference { weights: values, gradients, .. } = reference();
    let device = Default::default();
    let mut all = [DynamicMap::signed(), DynamicMap::unsigned()]
        .map(|map| Moment::<Flex>::zeros(values.len(), moments, map, &device));
    let mut stepped = tensor(&values).cast(weights);
    for (index, gradient) in gradients.iter().enumerate() {
        let step = AdamWStep {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay,
            scale: 1.0,
            step: index + 1,
        };
        (stepped, all) = step_fn(stepped, tensor(gradient), all, &step, &NOISE);
        assert_eq!(stepped.dtype(), weights);
    }
    (numbers(stepped), all)
}

fn assert_near(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what} {i}: {a} for {b}");
    }
}

#[test]
fn the_maps_are_those_of_bitsandbytes() {
    let reference = reference();
    for (ours, theirs) in
        [(DynamicMap::signed(), reference.signed_map), (DynamicMap::unsigned(), reference.unsigned_map)]
    {
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(ours.values()), bits(&theirs));
        for (code, value) in theirs.iter().enumerate() {
            assert_eq!(usize::from(ours.code(*value)), code, "a number of the map has its own code");
        }
    }
}

#[test]
fn blocks_have_the_nearest_codes() {
    let Reference { signed, unsigned, zeros, .. } = reference();
    for (map, expected) in
        [(DynamicMap::signed(), signed), (DynamicMap::unsigned(), unsigned), (DynamicMap::signed(), zeros)]
    {
        let mut codes = vec![0; expected.values.len()];
        let mut restored = vec![0.0; codes.len()];
        let mut absmax = Vec::new();
        for (values, codes) in expected.values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)) {
            absmax.push(map.encode(values, codes));
        }
        for ((codes, absmax), restored) in codes.chunks(BLOCK).zip(&absmax).zip(restored.chunks_mut(BLOCK)) {
            map.decode(codes, *absmax, restored);
        }
        assert_eq!(codes, expected.codes);
        assert_eq!(absmax, expected.absmax);
        assert_eq!(restored, expected.restored);
    }
}

#[test]
fn steps_in_f32_are_those_of_pytorch() {
    let State { weights, first, second, .. } = reference().f32;
    let (ours, moments) = stepped(adamw_stored, DType::F32, MomentDtype::F32, 0.1);
    assert_near("weights", &ours, &weights, 1e-6);
    for (moment, theirs) in moments.into_iter().zip([first, second]) {
        assert_near("moment", &numbers(moment.values()), &theirs, 1e-6);
    }
}

#[test]
fn steps_in_bf16_are_those_of_numpy_bit_by_bit() {
    let State { weights, first, second, .. } = reference().bf16;
    for step_fn in [adamw_stored as StepFn, composed as StepFn] {
        let (ours, moments) = stepped(step_fn, DType::BF16, MomentDtype::Bf16, 0.1);
        assert_eq!(ours, weights);
        assert_eq!(moments.map(|moment| numbers(moment.values())), [first.clone(), second.clone()]);
    }
}

#[test]
fn steps_in_8_bits_are_those_of_numpy() {
    let expected = reference().eight_bit;
    for step_fn in [adamw_stored as StepFn, composed as StepFn] {
        let (ours, moments) = stepped(step_fn, DType::F32, MomentDtype::EightBit, 0.0);
        assert_near("weights", &ours, &expected.weights, 1e-6);
        let states = [(&expected.first, &expected.first_absmax), (&expected.second, &expected.second_absmax)];
        for (moment, (codes, absmax)) in moments.into_iter().zip(states) {
            let Moment::EightBit(moment) = moment else { panic!("moments stay in 8 bits") };
            let (ours, our_absmax) = moment.into_host();
            // A number between two codes may get either, by the last bits of a step's size.
            let apart = ours.iter().zip(codes).filter(|(a, b)| a != b).count();
            assert!(ours.iter().zip(codes).all(|(a, b)| a.abs_diff(*b) <= 1) && apart <= 3, "{apart} codes differ");
            assert_near("absmax", &our_absmax, absmax, 1e-6);
        }
    }
}

/// With moments and weights of several tasks, whose last block is a part.
#[test]
fn loops_and_tensor_operations_have_the_same_bits() {
    let count = 2 * TASK + 300;
    let irregular = |seed: f64| (0..count).map(|i| ((i as f64 + seed) * 12.9898).sin() as f32).collect::<Vec<f32>>();
    let step = AdamWStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        scale: 1.0,
        step: 4,
    };
    let run = |step_fn: StepFn| {
        let (weights, gradient) = (tensor(&irregular(0.1)).cast(DType::BF16), tensor(&irregular(5.0)));
        let zeros = |dtype, map| Moment::zeros(count, dtype, map, &Default::default());
        let moments =
            [zeros(MomentDtype::EightBit, DynamicMap::signed()), zeros(MomentDtype::Bf16, DynamicMap::unsigned())];
        let (weights, [first, second]) = step_fn(weights, gradient, moments, &step, &NOISE);
        [weights.cast(DType::F32), first.values(), second.values()].map(numbers)
    };
    let [loops, operations] = [run(adamw_stored), run(composed)];
    for (a, b) in loops.iter().flatten().zip(operations.iter().flatten()) {
        assert!((a - b).abs() <= 1.0 / 128.0 * b.abs(), "{a} and {b}");
    }
    let apart = loops.iter().flatten().zip(operations.iter().flatten()).filter(|(a, b)| a != b).count();
    assert!(apart <= 30, "{apart} of {} numbers differ, more than rounding of f32 explains", 3 * count);
}

#[test]
fn random_bits_are_those_of_the_reference() {
    let expected = reference().random_bits;
    let stream = NOISE.stream(2, Rounded::Weights);
    assert_eq!((0..16).map(|i| stream.bits(i)).collect::<Vec<_>>(), expected);
    // A part of a parameter goes on where the part before it ended.
    let later = Noise { offset: NOISE.offset + 5, ..NOISE }.stream(2, Rounded::Weights);
    assert_eq!((0..11).map(|i| later.bits(i)).collect::<Vec<_>>(), expected[5..]);
    for other in [NOISE.stream(3, Rounded::Weights), NOISE.stream(2, Rounded::First)] {
        assert_ne!((0..16).map(|i| other.bits(i)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn stochastic_rounding_is_unbiased_and_exact_on_numbers_of_bf16() {
    let stream = NOISE.stream(1, Rounded::Weights);
    let count = 1 << 16;
    for value in [1.001_f32, -0.300_7, 3e-5, 1.996_1, 6.103e-39] {
        let mut rounded = vec![bf16::ZERO; count];
        stream.round(0, &vec![value; count], &mut rounded);
        let low = bf16::from_bits((value.to_bits() >> 16) as u16);
        let high = bf16::from_bits(low.to_bits() + 1);
        assert!(rounded.iter().all(|x| *x == low || *x == high));
        let mean = rounded.iter().map(|x| f64::from(x.to_f32())).sum::<f64>() / count as f64;
        // Four standard errors of a mean of two neighbours.
        let room = 4.0 * 0.5 * f64::from((high.to_f32() - low.to_f32()).abs()) / (count as f64).sqrt();
        assert!((mean - f64::from(value)).abs() < room, "{mean} for {value}");
        if value.is_normal() {
            let composed = numbers(stream.round_tensor(tensor(&vec![value; 4096])));
            let loops: Vec<f32> = rounded[..4096].iter().map(|x| x.to_f32()).collect();
            assert_eq!(composed, loops);
        }
    }
    let exact = [0.0, 1.0, -1.5, 0.0078125, -3.0e38, f32::INFINITY, f32::NEG_INFINITY].map(bf16::from_f32);
    let values: Vec<f32> = exact.iter().cycle().take(7000).map(|x| x.to_f32()).collect();
    let mut rounded = vec![bf16::ZERO; values.len()];
    stream.round(0, &values, &mut rounded);
    assert!(rounded.iter().zip(&values).all(|(a, b)| a.to_f32() == *b));
    assert_eq!(numbers(stream.round_tensor(tensor(&values))), values);
}
