//! The softmax of each token, updated slice by slice of its logits (online softmax).

use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use crate::kernels::host::{Host, HostView, exp, flushed, is_host_f32, max, sums, task_rows, vectorized};
use crate::tokens::token_tensor;

/// The softmax of each token over the slices read so far.
pub(crate) struct OnlineSoftmax<B: Backend> {
    temperature: f64,
    kind: Kind<B>,
}

enum Kind<B: Backend> {
    Host(Vec<Row>),
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    Gpu(bupo_gpu::SoftmaxState<B>),
    /// All `[rows, 1]`.
    Tensors {
        max: Tensor<B, 2>,
        sum: Tensor<B, 2>,
        weighted: Tensor<B, 2>,
        target: Tensor<B, 2>,
    },
}

/// The softmax of one token's logits `x`, at the policy's temperature.
#[derive(Clone, Copy)]
struct Row {
    max: f32,
    /// Sum of `exp(x - max)`.
    sum: f32,
    /// Sum of `exp(x - max) (x - max)`.
    weighted: f32,
    /// The target's `x`.
    target: f32,
}

impl Row {
    fn log_sum(&self) -> f32 {
        self.max + self.sum.ln()
    }

    fn entropy(&self) -> f32 {
        // A NaN stays one.
        let entropy = self.sum.ln() - self.weighted / self.sum;
        if entropy < 0.0 { 0.0 } else { entropy }
    }
}

impl<B: Backend> OnlineSoftmax<B> {
    /// For `rows` tokens, before any slice; computed on the device of `like`.
    pub(crate) fn new(rows: usize, temperature: f64, like: &Tensor<B, 2>) -> Self {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if bupo_gpu::runs::<B>() {
            return Self { temperature, kind: Kind::Gpu(gpu_state(rows, &like.device())) };
        }
        let kind = if is_host_f32(like) {
            Kind::Host(vec![Row { max: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0, target: 0.0 }; rows])
        } else {
            let column = |value: f64| Tensor::<B, 2>::full([rows, 1], value, &like.device()).cast(DType::F32);
            Kind::Tensors { max: column(-1e30), sum: column(0.0), weighted: column(0.0), target: column(0.0) }
        };
        Self { temperature, kind }
    }

    /// Adds the logits of a slice of the vocabulary that begins at `start`, `[rows, slice]`, not divided by the
    /// temperature, and returns them.
    pub(crate) fn read(&mut self, logits: Tensor<B, 2>, start: usize, targets: Option<&[u32]>) -> Tensor<B, 2> {
        let [_, width] = logits.dims();
        match &mut self.kind {
            Kind::Host(rows) => {
                let scale = (1.0 / self.temperature) as f32;
                let read = HostView::of(logits.clone());
                read_rows(rows, read.values(), width, scale, targets, start);
                logits
            }
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Kind::Gpu(state) => {
                let device = logits.device();
                let targets = targets.map(|targets| token_tensor(targets, &device));
                // Moved out, so that it is updated in place.
                let softmax = std::mem::replace(state, gpu_state(0, &device));
                *state = bupo_gpu::fold_logits(softmax, logits.clone(), targets, start, 1.0 / self.temperature);
                logits
            }
            Kind::Tensors { max, sum, weighted, target } => {
                let read = logits.clone();
                let logits = divided(logits.cast(DType::F32), self.temperature);
                if let Some(targets) = targets {
                    let (index, inside) = places(targets, start, width, &logits.device());
                    *target = target.clone() + logits.clone().gather(1, index) * inside;
                }
                let new = max.clone().max_pair(logits.clone().max_dim(1));
                let shrink = (max.clone() - new.clone()).exp();
                let moved = (max.clone() - new.clone()) * sum.clone();
                let shifted = logits - new.clone();
                let weights = shifted.clone().exp();
                *weighted = (weighted.clone() + moved) * shrink.clone() + (weights.clone() * shifted).sum_dim(1);
                *sum = sum.clone() * shrink + weights.sum_dim(1);
                *max = new;
                read
            }
        }
    }

    /// The entropies in nats.
    pub(crate) fn entropy(&self) -> Vec<f32> {
        match &self.kind {
            Kind::Host(rows) => rows.iter().map(Row::entropy).collect(),
            _ => values(self.entropies()),
        }
    }

    /// The log-probs of the targets in nats.
    pub(crate) fn log_probs(&self) -> Vec<f32> {
        match &self.kind {
            Kind::Host(rows) => rows.iter().map(|row| (row.target - row.max) - row.sum.ln()).collect(),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Kind::Gpu(state) => values(state.target.clone() - state.max.clone() - state.sum.clone().log()),
            Kind::Tensors { max, sum, target, .. } => values(target.clone() - max.clone() - sum.clone().log()),
        }
    }

    fn entropies(&self) -> Tensor<B, 2> {
        let (sum, weighted) = match &self.kind {
            Kind::Host(_) => unreachable!("only of tensors"),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Kind::Gpu(state) => (&state.sum, &state.weighted),
            Kind::Tensors { sum, weighted, .. } => (sum, weighted),
        };
        (sum.clone().log() - weighted.clone() / sum.clone()).clamp_min(0.0)
    }
}

/// Adds a slice's logits `[rows, width]` to the rows.
fn read_rows(rows: &mut [Row], logits: &[f32], width: usize, scale: f32, targets: Option<&[u32]>, start: usize) {
    let tasks = task_rows(width);
    rows.par_chunks_mut(tasks).zip(logits.par_chunks(tasks * width)).enumerate().for_each(|(task, (rows, logits))| {
        vectorized!({
            for (i, (row, x)) in rows.iter_mut().zip(logits.chunks_exact(width)).enumerate() {
                if let Some(id) = targets.and_then(|targets| within(targets[task * tasks + i], start, width)) {
                    row.target = x[id] * scale;
                }
                read_row(row, x, scale);
            }
        });
    });
}

/// The place of a target in the slice that begins at `start`.
fn within(target: u32, start: usize, width: usize) -> Option<usize> {
    (target as usize).checked_sub(start).filter(|place| *place < width)
}

#[inline(always)]
fn read_row(row: &mut Row, x: &[f32], scale: f32) {
    let largest = max(x) * scale;
    let new = if row.max > largest { row.max } else { largest };
    if row.sum > 0.0 {
        let shrink = exp(row.max - new);
        row.weighted = (row.weighted + (row.max - new) * row.sum) * shrink;
        row.sum *= shrink;
    }
    row.max = new;
    let (sum, weighted) = sums(x, |x| {
        let shifted = x * scale - new;
        let weight = exp(shifted);
        (weight, weight * shifted)
    });
    row.sum += sum;
    row.weighted += weighted;
}

/// The gradient of a loss with respect to logits, given the softmax of each token.
pub(crate) struct LogitGradient<'a, B: Backend> {
    pub(crate) softmax: &'a OnlineSoftmax<B>,
    pub(crate) targets: &'a [u32],
    /// The loss's derivatives with respect to the targets' log-probs.
    pub(crate) log_probs: &'a [f32],
    /// The loss's derivatives with respect to the entropies.
    pub(crate) entropy: Option<&'a [f32]>,
}

impl<B: Backend> LogitGradient<'_, B> {
    /// With respect to `logits` of the slice that begins at `start`, before the division by the temperature, in f32.
    pub(crate) fn of(&self, logits: Tensor<B, 2>, start: usize) -> Tensor<B, 2> {
        let ([rows, width], device) = (logits.dims(), logits.device());
        match &self.softmax.kind {
            Kind::Host(rows_read) => {
                let mut logits = Host::take(logits);
                let derivatives =
                    RowDerivatives { targets: self.targets, log_probs: self.log_probs, entropy: self.entropy };
                let scale = (1.0 / self.softmax.temperature) as f32;
                logit_gradients(logits.values_mut(), rows_read, width, start, &derivatives, scale);
                logits.give(&device)
            }
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Kind::Gpu(state) => {
                let column = |values: &[f32]| {
                    Tensor::<B, 1>::from_data(TensorData::new(values.to_vec(), [rows]), (&device, DType::F32))
                };
                let (log_probs, entropy) = (column(self.log_probs), self.entropy.map(column));
                let (targets, scale) = (token_tensor(self.targets, &device), 1.0 / self.softmax.temperature);
                bupo_gpu::logit_gradient(state, logits, targets, log_probs, entropy, start, scale)
            }
            Kind::Tensors { max, sum, .. } => {
                let temperature = self.softmax.temperature;
                let column = |values: &[f32]| {
                    Tensor::<B, 2>::from_data(TensorData::new(values.to_vec(), [rows, 1]), &device).cast(DType::F32)
                };
                // Terms that are constant in a row are combined first, so that fewer operations run over all logits.
                let logs = divided(logits.cast(DType::F32), temperature) - (max.clone() + sum.clone().log());
                let d = column(self.log_probs) / temperature;
                let shared = match self.entropy {
                    None => logs.exp() * d.clone().neg(),
                    Some(entropy) => {
                        let e = column(entropy) / temperature;
                        let rest = d.clone() + self.softmax.entropies() * e.clone();
                        logs.clone().exp() * (logs * e.neg() - rest)
                    }
                };
                let (index, inside) = places(self.targets, start, width, &device);
                shared.scatter(1, index, d * inside, IndexingUpdateOp::Add)
            }
        }
    }
}

struct RowDerivatives<'a> {
    targets: &'a [u32],
    log_probs: &'a [f32],
    entropy: Option<&'a [f32]>,
}

/// Turns logits `[rows, width]` into their gradient.
fn logit_gradients(
    logits: &mut [f32],
    rows: &[Row],
    width: usize,
    start: usize,
    derivatives: &RowDerivatives<'_>,
    scale: f32,
) {
    let tasks = task_rows(width);
    logits.par_chunks_mut(tasks * width).enumerate().for_each(|(task, logits)| {
        vectorized!({
            for (i, x) in logits.chunks_exact_mut(width).enumerate() {
                let row = task * tasks + i;
                let d_entropy = derivatives.entropy.map_or(0.0, |d| d[row]);
                logit_gradient(x, &rows[row], derivatives.log_probs[row], d_entropy, scale);
                if let Some(id) = within(derivatives.targets[row], start, width) {
                    x[id] += derivatives.log_probs[row] * scale;
                }
            }
        });
    });
}

#[inline(always)]
fn logit_gradient(x: &mut [f32], row: &Row, d_log_prob: f32, d_entropy: f32, scale: f32) {
    let log_sum = row.log_sum();
    if d_entropy == 0.0 {
        let factor = -d_log_prob * scale;
        for x in x.iter_mut() {
            *x = flushed(exp(*x * scale - log_sum) * factor);
        }
        return;
    }
    let entropy = row.entropy();
    for x in x.iter_mut() {
        let log_prob = *x * scale - log_sum;
        *x = flushed(-exp(log_prob) * scale * (d_log_prob + d_entropy * (log_prob + entropy)));
    }
}

/// Before any slice.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn gpu_state<B: Backend>(rows: usize, device: &B::Device) -> bupo_gpu::SoftmaxState<B> {
    let column = |value: f32| Tensor::<B, 2>::from_data(TensorData::new(vec![value; rows], [rows, 1]), device);
    bupo_gpu::SoftmaxState { max: column(-1e30), sum: column(0.0), weighted: column(0.0), target: column(0.0) }
}

fn divided<B: Backend>(logits: Tensor<B, 2>, temperature: f64) -> Tensor<B, 2> {
    if temperature == 1.0 { logits } else { logits / temperature }
}

/// The index of each target within a slice, and 1 if it is in the slice or 0 if not, both `[rows, 1]`.
fn places<B: Backend>(
    targets: &[u32],
    start: usize,
    width: usize,
    device: &B::Device,
) -> (Tensor<B, 2, burn::tensor::Int>, Tensor<B, 2>) {
    let place = |target: &u32| within(*target, start, width);
    let index: Vec<u32> = targets.iter().map(|target| place(target).unwrap_or(0) as u32).collect();
    let inside: Vec<f32> = targets.iter().map(|target| f32::from(u8::from(place(target).is_some()))).collect();
    let rows = targets.len();
    let inside = Tensor::<B, 2>::from_data(TensorData::new(inside, [rows, 1]), device).cast(DType::F32);
    (token_tensor(&index, device).unsqueeze_dim(1), inside)
}

fn values<B: Backend>(column: Tensor<B, 2>) -> Vec<f32> {
    column.into_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn gradients_of_a_sharp_softmax_are_not_subnormal() {
        let logits =
            Tensor::<Flex, 2>::from_floats([[0.0, -30.0, -60.0, -70.0, -80.0, -86.0, -90.0]], &Default::default());
        let mut softmax = OnlineSoftmax::new(1, 1.0, &logits);
        softmax.read(logits.clone(), 0, Some(&[0]));
        for entropy in [None, Some(&[1e-3_f32][..])] {
            let gradient = LogitGradient { softmax: &softmax, targets: &[0], log_probs: &[1e-3], entropy };
            let values: Vec<f32> = gradient.of(logits.clone(), 0).into_data().iter().collect();
            assert!(values.iter().all(|x| *x == 0.0 || x.abs() >= 1e-30), "{values:?}");
            assert!(values[1] != 0.0 && values[4..] == [0.0; 3], "{values:?}");
        }
    }
}
