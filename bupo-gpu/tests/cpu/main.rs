//! Each kernel on the default WGPU device beside the loops of the CPU backend. Without a device nothing is compared.
#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used)]

mod cache;
mod layers;
mod optimizer;
mod policy;

use burn::backend::{Flex, Wgpu};
use burn::tensor::{DType, Tensor, TensorData};

/// Rows and columns are odd, and more than a cube has units.
const ROWS: usize = 37;
const WIDTH: usize = 301;
const EPS: f64 = 1e-6;

/// The same irregular numbers on both, rounded to `dtype`; f32 on the CPU.
fn both<const D: usize>(shape: [usize; D], seed: f64, dtype: DType) -> (Tensor<Wgpu, D>, Tensor<Flex, D>) {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (((i as f64 + seed) * 12.9898).sin() * 2.0) as f32).collect();
    let rounded = TensorData::new(values, shape).convert_dtype(dtype);
    let exact = rounded.clone().convert_dtype(DType::F32);
    let device = Default::default();
    (Tensor::from_data(rounded, (&device, dtype)), Tensor::from_data(exact, &Default::default()))
}

fn numbers(data: TensorData) -> Vec<f64> {
    data.convert_dtype(DType::F64).iter::<f64>().collect()
}

fn near<const D: usize>(what: &str, dtype: DType, ours: Tensor<Wgpu, D>, cpu: Tensor<Flex, D>) {
    assert_eq!(ours.dims(), cpu.dims(), "{what}");
    near_values(what, dtype, &numbers(ours.into_data()), &numbers(cpu.into_data()));
}

fn near_values(what: &str, dtype: DType, ours: &[f64], cpu: &[f64]) {
    assert_eq!(ours.len(), cpu.len(), "{what}");
    let size = cpu.iter().fold(1e-3_f64, |size, value| size.max(value.abs()));
    let allowed = if dtype == DType::F32 { 1e-5 } else { 4e-3 };
    for (index, (a, b)) in ours.iter().zip(cpu).enumerate() {
        assert!((a - b).abs() <= allowed * size, "{what} in {dtype:?} at {index}: {a} and {b} of {size}");
    }
}

/// Whether there is a device; checks each dtype that kernels are called with.
fn with_device(check: impl Fn(DType)) {
    let there = std::panic::catch_unwind(|| both([1], 0.0, DType::F32).0.into_data());
    if there.is_err() {
        println!("no WGPU device: nothing is compared");
        return;
    }
    bupo_gpu::with_kernels(true, || [DType::F32, DType::F16].into_iter().for_each(check));
}

fn angles(positions: &[usize], head_dim: usize) -> Vec<f32> {
    let angle = |position: usize, pair: usize| position as f32 * [1.0, 0.3, 0.1, 0.02, 0.001][pair % 5];
    positions.iter().flat_map(|position| (0..head_dim / 2).map(move |pair| angle(*position, pair))).collect()
}

/// The table of the kernels: cosines of a position, then its sines.
fn packed(positions: &[usize], head_dim: usize) -> Tensor<Wgpu, 2> {
    let angles = angles(positions, head_dim);
    let of = |row: &[f32]| -> Vec<f32> { row.iter().map(|x| x.cos()).chain(row.iter().map(|x| x.sin())).collect() };
    let values: Vec<f32> = angles.chunks(head_dim / 2).flat_map(of).collect();
    Tensor::from_data(TensorData::new(values, [positions.len(), head_dim]), &Default::default())
}
