//! Moments in f32, bf16 or 8 bits, and a step with them.

use std::fmt;

use burn::tensor::backend::{Backend, DTypeUsage};
use burn::tensor::{DType, Int, Tensor, TensorData, bf16};
use serde::{Deserialize, Serialize};

use super::blocks::{Stored, step_stored};
use super::dynamic_map::{BLOCK, DynamicMap};
use super::stochastic::{Noise, Rounded};
use super::{AdamWStep, Numbers, adamw};
use crate::kernels::host::{HostView, hosts};

/// The dtype of AdamW's moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomentDtype {
    /// 4 bytes a number.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// 2 bytes, rounded stochastically: to nearest, 0.999 of a second moment would be that moment again.
    #[serde(rename = "bf16")]
    Bf16,
    /// 1 byte and 4 per block of 256, by the dynamic map of bitsandbytes.
    #[serde(rename = "8bit")]
    EightBit,
}

impl MomentDtype {
    /// Parameters of fewer weights keep their moments in f32, as in bitsandbytes.
    pub const MIN_WEIGHTS: usize = 4096;

    /// The dtype of the moments of a parameter with this many weights.
    pub fn of_parameter(self, weights: usize) -> Self {
        if weights < Self::MIN_WEIGHTS { Self::F32 } else { self }
    }

    /// Bytes of a moment of so many numbers.
    pub fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F32 => 4 * numbers,
            Self::Bf16 => 2 * numbers,
            Self::EightBit => numbers + 4 * numbers.div_ceil(BLOCK as u64),
        }
    }

    /// Whether a device has tensors of it.
    pub fn is_on<B: Backend>(self, device: &B::Device) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => B::supports_dtype(device, DType::BF16),
            Self::EightBit => B::dtype_usage(device, DType::U8).contains(DTypeUsage::Storage),
        }
    }
}

impl fmt::Display for MomentDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::EightBit => "8bit",
        })
    }
}

/// One moment of one parameter, flattened.
#[derive(Debug, Clone)]
pub enum Moment<B: Backend> {
    /// In f32.
    F32(Tensor<B, 1>),
    /// In bf16.
    Bf16(Tensor<B, 1>),
    /// In 8 bits.
    EightBit(EightBit<B>),
}

/// Numbers in 8 bits: codes of a [`DynamicMap`], and the largest absolute value of each block of [`BLOCK`].
#[derive(Debug, Clone)]
pub struct EightBit<B: Backend> {
    codes: Tensor<B, 1, Int>,
    absmax: Tensor<B, 1>,
    map: &'static DynamicMap,
}

impl<B: Backend> Moment<B> {
    /// Zeros, the moment before the first step. `map` is that of 8-bit numbers.
    pub fn zeros(length: usize, dtype: MomentDtype, map: &'static DynamicMap, device: &B::Device) -> Self {
        match dtype {
            MomentDtype::F32 => Self::F32(Tensor::zeros([length], device)),
            MomentDtype::Bf16 => Self::Bf16(Tensor::zeros([length], (device, DType::BF16))),
            MomentDtype::EightBit => Self::EightBit(EightBit::from_host(
                vec![map.code(0.0); length],
                vec![0.0; length.div_ceil(BLOCK)],
                map,
                device,
            )),
        }
    }

    /// Its dtype.
    pub fn dtype(&self) -> MomentDtype {
        match self {
            Self::F32(_) => MomentDtype::F32,
            Self::Bf16(_) => MomentDtype::Bf16,
            Self::EightBit(_) => MomentDtype::EightBit,
        }
    }

    /// Its numbers in f32.
    pub fn values(self) -> Tensor<B, 1> {
        match self {
            Self::F32(values) => values,
            Self::Bf16(values) => values.cast(DType::F32),
            Self::EightBit(numbers) => numbers.values(),
        }
    }
}

impl<B: Backend> EightBit<B> {
    /// Of codes and blocks' largest absolute values on the host.
    pub fn from_host(codes: Vec<u8>, absmax: Vec<f32>, map: &'static DynamicMap, device: &B::Device) -> Self {
        let (length, blocks) = (codes.len(), absmax.len());
        Self {
            codes: Tensor::from_data(TensorData::new(codes, [length]), (device, DType::U8)),
            absmax: Tensor::from_data(TensorData::new(absmax, [blocks]), device),
            map,
        }
    }

    /// Codes and blocks' largest absolute values.
    pub fn into_host(self) -> (Vec<u8>, Vec<f32>) {
        (self.codes.into_data().iter::<u8>().collect(), self.absmax.into_data().iter::<f32>().collect())
    }

    fn values(self) -> Tensor<B, 1> {
        let ([length], device) = (self.codes.dims(), self.codes.device());
        let blocks = self.absmax.dims()[0];
        let table = table::<B>(self.map.values(), &device);
        let values = filled_up(table.select(0, self.codes.cast(DType::I32)), blocks * BLOCK);
        let values = values.reshape([blocks, BLOCK]) * self.absmax.reshape([blocks, 1]);
        values.flatten::<1>(0, 1).narrow(0, 0, length)
    }

    fn of_values(values: Tensor<B, 1>, map: &'static DynamicMap) -> Self {
        let ([length], device) = (values.dims(), values.device());
        let blocks = length.div_ceil(BLOCK);
        let values = filled_up(values, blocks * BLOCK).reshape([blocks, BLOCK]);
        let absmax = values.clone().abs().max_dim(1);
        let shares = (values / absmax.clone().clamp_min(f32::MIN_POSITIVE)).flatten::<1>(0, 1);
        let midpoints = table::<B>(map.midpoints(), &device);
        let mut codes = Tensor::<B, 1, Int>::zeros([blocks * BLOCK], (&device, DType::I32));
        for bit in [128, 64, 32, 16, 8, 4, 2, 1] {
            let is_above = shares.clone().greater(midpoints.clone().select(0, codes.clone().add_scalar(bit - 1)));
            codes = codes.clone().mask_where(is_above, codes.add_scalar(bit));
        }
        Self { codes: codes.narrow(0, 0, length).cast(DType::U8), absmax: absmax.reshape([blocks]), map }
    }
}

/// The new weights, in f32 or bf16 as before, and the new first and second moments, each in its dtype. Weights and moments in bf16
/// are rounded stochastically; the weights' step is by moments that are not rounded yet.
pub fn adamw_stored<B: Backend>(
    weights: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    [first, second]: [Moment<B>; 2],
    step: &AdamWStep,
    noise: &Noise,
) -> (Tensor<B, 1>, [Moment<B>; 2]) {
    let (dtype, device) = (weights.dtype(), weights.device());
    match (dtype, first, second) {
        (DType::F32, Moment::F32(first), Moment::F32(second)) => {
            let (weights, first, second) = adamw(weights, gradient, first, second, step);
            (weights, [Moment::F32(first), Moment::F32(second)])
        }
        (_, first, second) if hosts::<B>(DType::F32, &device) => {
            let weights = if dtype == DType::BF16 { Moment::Bf16(weights) } else { Moment::F32(weights) };
            let mut all = [weights, first, second].map(OnHost::of);
            let [weights, first, second] = &mut all;
            let stored = [
                weights.stored(noise, step, Rounded::Weights),
                first.stored(noise, step, Rounded::First),
                second.stored(noise, step, Rounded::Second),
            ];
            step_stored(stored, HostView::of(gradient).values(), &Numbers::of(step));
            let [weights, first, second] = all.map(|numbers| numbers.give(&device));
            match weights {
                Moment::F32(weights) | Moment::Bf16(weights) => (weights, [first, second]),
                Moment::EightBit(weights) => (weights.values(), [first, second]),
            }
        }
        (_, first, second) => composed(weights, gradient, [first, second], step, noise),
    }
}

/// The step by tensor operations.
pub(super) fn composed<B: Backend>(
    weights: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    moments: [Moment<B>; 2],
    step: &AdamWStep,
    noise: &Noise,
) -> (Tensor<B, 1>, [Moment<B>; 2]) {
    let dtype = weights.dtype();
    let dtypes = moments.each_ref().map(Moment::dtype);
    let [first, second] = moments.map(Moment::values);
    let (weights, first, second) = adamw(weights.cast(DType::F32), gradient, first, second, step);
    let rounded =
        |values: Tensor<B, 1>, rounded| noise.stream(step.step, rounded).round_tensor(values).cast(DType::BF16);
    let stored = |values: Tensor<B, 1>, dtype, part, map| match dtype {
        MomentDtype::F32 => Moment::F32(values),
        MomentDtype::Bf16 => Moment::Bf16(rounded(values, part)),
        MomentDtype::EightBit => Moment::EightBit(EightBit::of_values(values, map)),
    };
    let moments = [
        stored(first, dtypes[0], Rounded::First, DynamicMap::signed()),
        stored(second, dtypes[1], Rounded::Second, DynamicMap::unsigned()),
    ];
    (if dtype == DType::BF16 { rounded(weights, Rounded::Weights) } else { weights }, moments)
}

/// Numbers taken to the host, copied only if they are shared.
enum OnHost {
    F32(TensorData),
    Bf16(TensorData),
    EightBit { codes: TensorData, absmax: TensorData, map: &'static DynamicMap },
}

impl OnHost {
    fn of<B: Backend>(numbers: Moment<B>) -> Self {
        match numbers {
            Moment::F32(values) => Self::F32(values.into_data()),
            Moment::Bf16(values) => Self::Bf16(values.into_data()),
            Moment::EightBit(EightBit { codes, absmax, map }) => {
                Self::EightBit { codes: codes.into_data(), absmax: absmax.into_data(), map }
            }
        }
    }

    fn stored(&mut self, noise: &Noise, step: &AdamWStep, rounded: Rounded) -> Stored<'_> {
        match self {
            Self::F32(values) => Stored::F32(slice(values)),
            Self::Bf16(values) => Stored::Bf16(slice::<bf16>(values), noise.stream(step.step, rounded)),
            Self::EightBit { codes, absmax, map } => {
                Stored::EightBit { codes: slice(codes), absmax: slice(absmax), map }
            }
        }
    }

    fn give<B: Backend>(self, device: &B::Device) -> Moment<B> {
        match self {
            Self::F32(values) => Moment::F32(Tensor::from_data(values, device)),
            Self::Bf16(values) => Moment::Bf16(Tensor::from_data(values, (device, DType::BF16))),
            Self::EightBit { codes, absmax, map } => Moment::EightBit(EightBit {
                codes: Tensor::from_data(codes, (device, DType::U8)),
                absmax: Tensor::from_data(absmax, device),
                map,
            }),
        }
    }
}

fn slice<E: burn::tensor::Element>(data: &mut TensorData) -> &mut [E] {
    data.as_mut_slice().unwrap_or_else(|_| panic!("a host tensor holds numbers of its dtype"))
}

fn table<B: Backend>(values: &[f32; 256], device: &B::Device) -> Tensor<B, 1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// Values followed by zeros.
fn filled_up<B: Backend>(values: Tensor<B, 1>, length: usize) -> Tensor<B, 1> {
    let missing = length - values.dims()[0];
    if missing == 0 {
        return values;
    }
    let zeros = Tensor::zeros([missing], &values.device());
    Tensor::cat(vec![values, zeros], 0)
}
