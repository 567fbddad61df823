//! Rotary position embedding of half-split heads, the layout of Hugging Face weights, with the change of layout around
//! it.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::host::{Host, HostView, each_row, hosts};
use super::runs_on_gpu;

/// Cosines and sines of positions, shared by all sequences or of each sequence.
#[derive(Debug, Clone)]
pub struct RopeTable<B: Backend> {
    /// `[places, head_dim / 2]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
    pairs: usize,
    seq: usize,
    /// `[places, head_dim]` in f32 where the kernels of GPUs run: the cosines of a place, then its sines.
    packed: Option<Tensor<B, 2>>,
    /// The same as tensors `[1 or batch, 1, seq, head_dim]` for backends other than the CPU's, each angle for both
    /// halves of a head, its sine negated for the first half.
    tensors: Option<[Tensor<B, 4>; 2]>,
}

impl<B: Backend> RopeTable<B> {
    /// For `angles` `[positions, head_dim / 2]`, of `seq` positions shared by all sequences or `seq` positions per
    /// sequence. Cosines and sines are multiplied by `factor`. Heads are of `dtype`.
    pub fn new(angles: &[f32], factor: f64, head_dim: usize, seq: usize, dtype: DType, device: &B::Device) -> Self {
        let factor = factor as f32;
        let (sin, cos) = angles.iter().map(|angle| (angle.sin() * factor, angle.cos() * factor)).unzip();
        let mut table = Self { cos, sin, pairs: head_dim / 2, seq, packed: None, tensors: None };
        if runs_on_gpu::<B>() {
            let pairs = table.pairs.max(1);
            let places = table.cos.chunks_exact(pairs).zip(table.sin.chunks_exact(pairs));
            let packed: Vec<f32> = places.flat_map(|(cos, sin)| cos.iter().chain(sin).copied()).collect();
            let rows = packed.len() / (2 * pairs);
            table.packed = Some(Tensor::from_data(TensorData::new(packed, [rows, 2 * pairs]), (device, DType::F32)));
        } else if !hosts::<B>(dtype, device) {
            let [cos, sin] = [(&table.cos, 1.0), (&table.sin, -1.0)].map(|(values, sign)| {
                let halves = |angles: &[f32]| angles.iter().map(|x| x * sign).chain(angles.iter().copied()).collect();
                let twice: Vec<f32> =
                    values.chunks_exact(table.pairs).flat_map(|angles| -> Vec<f32> { halves(angles) }).collect();
                let rows = twice.len() / (2 * seq * table.pairs).max(1);
                Tensor::from_data(TensorData::new(twice, [rows, 1, seq, 2 * table.pairs]), (device, dtype))
            });
            table.tensors = Some([cos, sin]);
        }
        table
    }

    /// The width of a head.
    pub(crate) fn head_dim(&self) -> usize {
        2 * self.pairs
    }

    /// The table of the kernels of GPUs, where they run.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    pub(crate) fn packed(&self) -> Option<Tensor<B, 2>> {
        self.packed.clone()
    }

    fn angles(&self) -> Angles<'_> {
        Angles { cos: &self.cos, sin: &self.sin, pairs: self.pairs, seq: self.seq }
    }
}

/// The angles of a table.
struct Angles<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    pairs: usize,
    seq: usize,
}

/// Rotates the heads of `x` `[batch * seq, heads * head_dim]`; the result is `[batch, heads, seq, head_dim]`.
pub(super) fn apply_rope<B: Backend>(
    x: Tensor<B, 2>,
    table: &RopeTable<B>,
    batch: usize,
    head_dim: usize,
) -> Tensor<B, 4> {
    let ([_, width], seq, device) = (x.dims(), table.seq, x.device());
    let heads = width / head_dim;
    if let Some([cos, sin]) = &table.tensors {
        let x = x.reshape([batch, seq, heads, head_dim]).swap_dims(1, 2);
        return x.clone() * cos.clone() + halves_swapped(x) * sin.clone();
    }
    let (x, mut out) = (HostView::of(x), Host::zeros([batch, heads, seq, head_dim]));
    table.angles().rotate(x.values(), width, head_dim, out.values_mut());
    out.give(&device)
}

/// The gradient with respect to `x` of [`apply_rope`], the inverse rotation, in the layout of `x`.
pub(super) fn apply_rope_backward<B: Backend>(dy: Tensor<B, 4>, table: &RopeTable<B>) -> Tensor<B, 2> {
    let ([batch, heads, seq, head_dim], device) = (dy.dims(), dy.device());
    let width = heads * head_dim;
    if let Some([cos, sin]) = &table.tensors {
        let dx = dy.clone() * cos.clone() - halves_swapped(dy) * sin.clone();
        return dx.swap_dims(1, 2).reshape([batch * seq, width]);
    }
    let (dy, mut out) = (HostView::of(dy), Host::zeros([batch * seq, width]));
    table.angles().rotate_back(dy.values(), heads, head_dim, out.values_mut());
    out.give(&device)
}

impl Angles<'_> {
    /// Rotates `x` `[batch * seq, heads * head_dim]` into `out` `[batch, heads, seq, head_dim]`.
    fn rotate(&self, x: &[f32], width: usize, head_dim: usize, out: &mut [f32]) {
        let (seq, heads) = (self.seq, width / head_dim);
        each_row(
            out,
            head_dim,
            #[inline(always)]
            |row, out| {
                let (sequence, head, token) = (row / seq / heads, row / seq % heads, row % seq);
                let from = &x[(sequence * seq + token) * width + head * head_dim..][..head_dim];
                let (cos, sin) = self.of(sequence, token);
                let ((low, high), (out_low, out_high)) = (from.split_at(self.pairs), out.split_at_mut(self.pairs));
                for i in 0..self.pairs {
                    out_low[i] = low[i] * cos[i] - high[i] * sin[i];
                    out_high[i] = high[i] * cos[i] + low[i] * sin[i];
                }
            },
        );
    }

    /// Rotates `dy` `[batch, heads, seq, head_dim]` back into `out` `[batch * seq, heads * head_dim]`.
    fn rotate_back(&self, dy: &[f32], heads: usize, head_dim: usize, out: &mut [f32]) {
        let (seq, width) = (self.seq, heads * head_dim);
        each_row(
            out,
            width,
            #[inline(always)]
            |row, out| {
                let (sequence, token) = (row / seq, row % seq);
                let (cos, sin) = self.of(sequence, token);
                for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    let from = &dy[((sequence * heads + head) * seq + token) * head_dim..][..head_dim];
                    let ((low, high), (out_low, out_high)) = (from.split_at(self.pairs), out.split_at_mut(self.pairs));
                    for i in 0..self.pairs {
                        out_low[i] = low[i] * cos[i] + high[i] * sin[i];
                        out_high[i] = high[i] * cos[i] - low[i] * sin[i];
                    }
                }
            },
        );
    }

    /// Cosines and sines of a sequence's token.
    #[inline(always)]
    fn of(&self, sequence: usize, token: usize) -> (&[f32], &[f32]) {
        let shared = self.cos.len() == self.seq * self.pairs;
        let place = (if shared { token } else { sequence * self.seq + token }) * self.pairs;
        (&self.cos[place..place + self.pairs], &self.sin[place..place + self.pairs])
    }
}

/// `(high, low)` of a head's halves.
fn halves_swapped<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [batch, heads, seq, head_dim] = x.dims();
    x.reshape([batch, heads, seq, 2, head_dim / 2]).flip([3]).reshape([batch, heads, seq, head_dim])
}
