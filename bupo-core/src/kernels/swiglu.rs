//! SwiGLU.

use burn::tensor::activation::{sigmoid, silu};
use burn::tensor::{DType, Tensor, backend::Backend};
use rayon::prelude::*;

use super::host::{Host, HostView, each_row, exp, is_host_f32, vectorized};
use super::on_gpu;

const TASK: usize = 1 << 13;

/// `silu(gate) * up`, all `[rows, width]`.
pub fn swiglu<B: Backend>(gate: Tensor<B, 2>, up: Tensor<B, 2>) -> Tensor<B, 2> {
    if !is_host_f32(&gate) {
        on_gpu!(B, bupo_gpu::swiglu(gate, Some(up)));
        return silu(gate) * up;
    }
    let device = gate.device();
    let (mut gate, up) = (Host::take(gate), HostView::of(up));
    gated(gate.values_mut(), up.values());
    gate.give(&device)
}

/// [`swiglu`] of `[rows, 2 * width]`: a row's gate, then its `up`.
pub fn swiglu_joined<B: Backend>(gate_up: Tensor<B, 2>) -> Tensor<B, 2> {
    on_gpu!(B, bupo_gpu::swiglu(gate_up, None));
    let width = gate_up.dims()[1] / 2;
    swiglu(gate_up.clone().narrow(1, 0, width), gate_up.narrow(1, width, width))
}

fn gated(gate: &mut [f32], up: &[f32]) {
    each_row(
        gate,
        TASK,
        #[inline(always)]
        |row, gate| {
            for (gate, up) in gate.iter_mut().zip(&up[row * TASK..]) {
                *gate = *gate / (1.0 + exp(-*gate)) * up;
            }
        },
    );
}

/// The results of the backward pass of [`swiglu`], all `[rows, width]`.
#[derive(Debug)]
pub struct SwigluGradient<B: Backend> {
    /// [`swiglu`]'s result, recomputed.
    pub hidden: Tensor<B, 2>,
    /// The gradient with respect to the gate.
    pub d_gate: Tensor<B, 2>,
    /// The gradient with respect to `up`.
    pub d_up: Tensor<B, 2>,
}

/// The backward pass of [`swiglu`], from the gradient with respect to its result.
pub fn swiglu_backward<B: Backend>(gate: Tensor<B, 2>, up: Tensor<B, 2>, d_hidden: Tensor<B, 2>) -> SwigluGradient<B> {
    if !is_host_f32(&gate) {
        on_gpu!(B, {
            let [hidden, d_gate, d_up] = bupo_gpu::swiglu_backward(gate, up, d_hidden);
            SwigluGradient { hidden, d_gate, d_up }
        });
        let dtype = gate.dtype();
        let gate = gate.cast(DType::F32);
        let open = sigmoid(gate.clone());
        let passed = gate * open.clone();
        let slope = (open.clone() + passed.clone() * (open.neg() + 1.0)).cast(dtype);
        let passed = passed.cast(dtype);
        return SwigluGradient {
            hidden: passed.clone() * up.clone(),
            d_gate: d_hidden.clone() * up * slope,
            d_up: d_hidden * passed,
        };
    }
    let device = gate.device();
    let (mut gate, mut up, mut d_hidden) = (Host::take(gate), Host::take(up), Host::take(d_hidden));
    gated_backward(gate.values_mut(), up.values_mut(), d_hidden.values_mut());
    SwigluGradient { hidden: up.give(&device), d_gate: gate.give(&device), d_up: d_hidden.give(&device) }
}

/// Turns the gate into its gradient, `up` into the result, and the result's gradient into that of `up`.
fn gated_backward(gate: &mut [f32], up: &mut [f32], d_hidden: &mut [f32]) {
    gate.par_chunks_mut(TASK).zip(up.par_chunks_mut(TASK)).zip(d_hidden.par_chunks_mut(TASK)).for_each(
        |((gate, up), d_hidden)| {
            vectorized!({
                for ((gate, up), d_hidden) in gate.iter_mut().zip(up).zip(d_hidden) {
                    let open = 1.0 / (1.0 + exp(-*gate));
                    let passed = *gate * open;
                    let slope = open + passed * (1.0 - open);
                    // Results overwrite inputs that are not needed any more.
                    *gate = *d_hidden * *up * slope;
                    *up *= passed;
                    *d_hidden *= passed;
                }
            });
        },
    );
}
