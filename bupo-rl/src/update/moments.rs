//! AdamW's state of one parameter, and the shares of it that processes have.

use bupo_collective::Processes;
use bupo_core::kernels::{DynamicMap, EightBit, MOMENT_BLOCK, Moment, MomentDtype};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData, bf16};

use crate::RlError;

/// AdamW's state of one parameter.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// First moment: the exponential moving average of the gradients.
    pub first: Moment<B>,
    /// Second moment: that of the squared gradients.
    pub second: Moment<B>,
    /// Steps made.
    pub steps: usize,
}

/// Which of the two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MomentOf {
    First,
    Second,
}

impl MomentOf {
    pub(crate) const ALL: [Self; 2] = [Self::First, Self::Second];

    /// Its name in a checkpoint.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    /// The map of its numbers in 8 bits.
    pub(crate) fn map(self) -> &'static DynamicMap {
        match self {
            Self::First => DynamicMap::signed(),
            Self::Second => DynamicMap::unsigned(),
        }
    }
}

/// The shares of a parameter that processes step.
#[derive(Clone, Copy)]
pub(crate) struct Shares<'a> {
    /// The parameter's weights.
    pub(crate) length: usize,
    /// The dtype of its moments.
    pub(crate) dtype: MomentDtype,
    /// `None` if each process has the whole.
    pub(crate) processes: Option<&'a Processes>,
}

impl Shares<'_> {
    /// The length of a process's share: whole blocks, so that they are those of one process. The last shares are filled up with zeros.
    pub(crate) fn own_length(&self) -> usize {
        let Some(processes) = self.processes else { return self.length };
        let part = processes.part_length(self.length);
        if self.dtype == MomentDtype::EightBit { part.next_multiple_of(MOMENT_BLOCK) } else { part }
    }

    /// The place of this process's share in the parameter.
    pub(crate) fn offset(&self) -> usize {
        self.processes.map_or(0, |processes| processes.rank() * self.own_length())
    }

    /// The state before the first step.
    pub(crate) fn no_moments<B: Backend>(&self, device: &B::Device) -> Moments<B> {
        let [first, second] = MomentOf::ALL.map(|of| Moment::zeros(self.own_length(), self.dtype, of.map(), device));
        Moments { first, second, steps: 0 }
    }

    /// This process's share of the sum of a gradient over the processes.
    pub(crate) fn reduce_scatter<B: Backend>(&self, gradient: Tensor<B, 1>) -> Result<Tensor<B, 1>, RlError> {
        match self.processes {
            Some(processes) => Ok(processes.reduce_scatter(self.filled_up(processes, gradient))?),
            None => Ok(gradient),
        }
    }

    /// This process's share of weights that all have.
    pub(crate) fn part_of<B: Backend>(&self, weights: Tensor<B, 1>) -> Tensor<B, 1> {
        let Some(processes) = self.processes else { return weights };
        let dtype = weights.dtype();
        in_dtype(processes.part_of(self.filled_up(processes, in_dtype(weights, DType::F32))), dtype)
    }

    /// The whole weights from the shares of all processes.
    pub(crate) fn all_gather<B: Backend>(&self, own: Tensor<B, 1>) -> Result<Tensor<B, 1>, RlError> {
        let Some(processes) = self.processes else { return Ok(own) };
        let dtype = own.dtype();
        Ok(in_dtype(processes.all_gather(in_dtype(own, DType::F32), self.length)?, dtype))
    }

    /// This process's share of a moment of which the host has the whole numbers, in its dtype. They are rounded to nearest if they
    /// are of another one.
    pub(crate) fn moment<B: Backend>(&self, of: MomentOf, whole: &HostMoment, device: &B::Device) -> Moment<B> {
        let (start, length) = (self.offset(), self.own_length());
        if let (HostMoment::EightBit { codes, absmax }, MomentDtype::EightBit) = (whole, self.dtype) {
            let codes = part(codes, start, length, of.map().code(0.0));
            let absmax = part(absmax, start / MOMENT_BLOCK, length.div_ceil(MOMENT_BLOCK), 0.0);
            return Moment::EightBit(EightBit::from_host(codes, absmax, of.map(), device));
        }
        let values = part(&whole.values(of), start, length, 0.0);
        match self.dtype {
            MomentDtype::F32 => Moment::F32(Tensor::from_data(TensorData::new(values, [length]), device)),
            MomentDtype::Bf16 => {
                let values: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
                Moment::Bf16(Tensor::from_data(TensorData::new(values, [length]), (device, DType::BF16)))
            }
            MomentDtype::EightBit => {
                let mut codes = vec![0; length];
                let blocks = values.chunks(MOMENT_BLOCK).zip(codes.chunks_mut(MOMENT_BLOCK));
                let absmax = blocks.map(|(values, codes)| of.map().encode(values, codes)).collect();
                Moment::EightBit(EightBit::from_host(codes, absmax, of.map(), device))
            }
        }
    }

    /// Followed by zeros, so that every process's share has the same length.
    fn filled_up<B: Backend>(&self, processes: &Processes, tensor: Tensor<B, 1>) -> Tensor<B, 1> {
        let missing = self.own_length() * processes.size() - tensor.dims()[0];
        if missing == 0 || self.dtype != MomentDtype::EightBit {
            return tensor;
        }
        let zeros = Tensor::zeros([missing], &tensor.device());
        Tensor::cat(vec![tensor, zeros], 0)
    }
}

/// A whole moment on the host.
pub(crate) enum HostMoment {
    /// Numbers in f32 or bf16.
    Numbers(Vec<f32>),
    EightBit {
        codes: Vec<u8>,
        absmax: Vec<f32>,
    },
}

impl HostMoment {
    fn values(&self, of: MomentOf) -> Vec<f32> {
        match self {
            Self::Numbers(values) => values.clone(),
            Self::EightBit { codes, absmax } => {
                let mut values = vec![0.0; codes.len()];
                let blocks = codes.chunks(MOMENT_BLOCK).zip(values.chunks_mut(MOMENT_BLOCK)).zip(absmax);
                blocks.for_each(|((codes, values), absmax)| of.map().decode(codes, *absmax, values));
                values
            }
        }
    }

    /// The number of weights.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::EightBit { codes, .. } => codes.len(),
        }
    }
}

fn part<T: Copy>(whole: &[T], start: usize, length: usize, fill: T) -> Vec<T> {
    let inside = whole.iter().skip(start).take(length).copied();
    inside.chain(std::iter::repeat(fill)).take(length).collect()
}

fn in_dtype<B: Backend>(tensor: Tensor<B, 1>, dtype: DType) -> Tensor<B, 1> {
    if tensor.dtype() == dtype { tensor } else { tensor.cast(dtype) }
}
