//! A step of numbers in host memory that are not all f32: a block at a time is widened to f32, stepped and stored again.

use burn::tensor::bf16;
use rayon::prelude::*;

use super::dynamic_map::{BLOCK, DynamicMap};
use super::stochastic::Stream;
use super::{Numbers, TASK, vectorized};

/// Numbers as they are stored.
pub(super) enum Stored<'a> {
    F32(&'a mut [f32]),
    /// Rounded by the stream's numbers.
    Bf16(&'a mut [bf16], Stream),
    EightBit {
        codes: &'a mut [u8],
        absmax: &'a mut [f32],
        map: &'static DynamicMap,
    },
}

impl<'a> Stored<'a> {
    /// The parts of one task each.
    fn tasks(self) -> Vec<Self> {
        match self {
            Self::F32(values) => values.chunks_mut(TASK).map(Self::F32).collect(),
            Self::Bf16(values, stream) => values.chunks_mut(TASK).map(|part| Self::Bf16(part, stream)).collect(),
            Self::EightBit { codes, absmax, map } => codes
                .chunks_mut(TASK)
                .zip(absmax.chunks_mut(TASK / BLOCK))
                .map(|(codes, absmax)| Self::EightBit { codes, absmax, map })
                .collect(),
        }
    }

    /// Reads the block at `start`, as many numbers as there is room for.
    #[inline(always)]
    fn load(&self, start: usize, block: &mut [f32]) {
        let range = start..start + block.len();
        match self {
            Self::F32(values) => block.copy_from_slice(&values[range]),
            Self::Bf16(values, _) => {
                block.iter_mut().zip(&values[range]).for_each(|(wide, value)| *wide = value.to_f32());
            }
            Self::EightBit { codes, absmax, map } => map.decode(&codes[range], absmax[start / BLOCK], block),
        }
    }

    /// Writes the block at `start`, in the task whose first number is at `task`.
    #[inline(always)]
    fn store(&mut self, task: usize, start: usize, block: &[f32]) {
        let range = start..start + block.len();
        match self {
            Self::F32(values) => values[range].copy_from_slice(block),
            Self::Bf16(values, stream) => stream.round(task + start, block, &mut values[range]),
            Self::EightBit { codes, absmax, map } => absmax[start / BLOCK] = map.encode(block, &mut codes[range]),
        }
    }
}

/// Steps weights and moments.
pub(super) fn step_stored([weights, first, second]: [Stored<'_>; 3], gradient: &[f32], numbers: &Numbers) {
    weights
        .tasks()
        .into_par_iter()
        .zip(first.tasks())
        .zip(second.tasks())
        .zip(gradient.par_chunks(TASK))
        .enumerate()
        .for_each(|(index, (((mut weights, mut first), mut second), gradient))| {
            vectorized!({
                let [mut w, mut m, mut v] = [[0.0; BLOCK]; 3];
                for (block, gradient) in gradient.chunks(BLOCK).enumerate() {
                    let (start, length) = (block * BLOCK, gradient.len());
                    let [w, m, v] = [&mut w[..length], &mut m[..length], &mut v[..length]];
                    weights.load(start, w);
                    first.load(start, m);
                    second.load(start, v);
                    numbers.step(w, gradient, m, v);
                    weights.store(index * TASK, start, w);
                    first.store(index * TASK, start, m);
                    second.store(index * TASK, start, v);
                }
            });
        });
}
