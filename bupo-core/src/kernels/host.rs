//! f32 tensors in host memory, accessed as slices, and the vectorised loops over them.

use std::any::Any;

use bupo_gemm::{Strided, Weights};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Numbers per task: enough to be worth a task, few enough for a core's cache.
const TASK: usize = 1 << 14;
/// Numbers that one core works through sooner than another one is woken.
const SERIAL: usize = 1 << 16;
/// Independent partial sums, so that a sum is limited by memory and not by the latency of an addition.
const LANES: usize = 16;

/// Whether a backend's tensors of a dtype are f32 slices in host memory that can be taken and given back without a
/// copy.
pub(crate) fn hosts<B: Backend>(dtype: DType, device: &B::Device) -> bool {
    dtype == DType::F32 && B::name(device) == "flex"
}

/// The dtype of activations in layers that compute in `dtype`: that dtype, but f32 on the CPU backend, which has bf16 in products
/// only.
pub fn activation_dtype<B: Backend>(dtype: DType, device: &B::Device) -> DType {
    if hosts::<B>(DType::F32, device) { DType::F32 } else { dtype }
}

/// Whether this tensor is such a slice.
pub(crate) fn is_host_f32<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> bool {
    hosts::<B>(tensor.dtype(), &tensor.device())
}

/// A tensor's f32 values for reading, not copied even if the tensor is shared.
pub(crate) struct HostView(FlexTensor);

/// A matrix of f32 values as it lies in memory, not copied.
pub(crate) struct MatrixView(FlexTensor);

/// The weights of a product, not copied.
pub(crate) struct WeightView(FlexTensor);

impl HostView {
    pub(crate) fn of<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Self {
        Self(contiguous(tensor))
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0.as_slice().unwrap_or_else(|| panic!("a host tensor holds f32"))
    }
}

impl MatrixView {
    pub(crate) fn of<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Self {
        Self(on_host(tensor))
    }

    pub(crate) fn strided(&self) -> Strided<'_> {
        let layout = self.0.layout();
        let [row, column] = [0, 1].map(|axis| layout.strides()[axis] as usize);
        Strided { values: &self.0.storage()[layout.start_offset()..], row, column }
    }
}

impl WeightView {
    /// Of a weight in f32 or bf16.
    pub(crate) fn of<B: Backend>(weight: Tensor<B, 2>) -> Self {
        Self(contiguous(weight))
    }

    pub(crate) fn weights(&self) -> Weights<'_> {
        match self.0.dtype() {
            DType::BF16 => Weights::Bf16(self.0.as_slice().unwrap_or_else(|| panic!("a bf16 tensor holds bf16"))),
            _ => Weights::F32(self.0.as_slice().unwrap_or_else(|| panic!("a host tensor holds f32"))),
        }
    }
}

fn contiguous<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FlexTensor {
    let tensor = on_host(tensor);
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

fn on_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FlexTensor {
    let primitive: Box<dyn Any> = Box::new(tensor.into_primitive().tensor());
    let Ok(tensor) = primitive.downcast::<FlexTensor>() else { panic!("only tensors in host memory are viewed") };
    *tensor
}

/// A tensor's f32 values for writing, copied only if the tensor is shared, on all cores.
#[derive(Clone)]
pub(crate) struct Host(TensorData);

impl Host {
    pub(crate) fn take<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Self {
        if !is_host_f32(&tensor) {
            return Self(tensor.into_data());
        }
        let tensor = on_host(tensor);
        match tensor.as_slice::<f32>() {
            Some(values) if !tensor.is_unique() => {
                let copy: Vec<f32> = values.par_iter().with_min_len(TASK).copied().collect();
                Self(TensorData::new(copy, tensor.layout().shape().clone()))
            }
            _ => Self(tensor.into_data()),
        }
    }

    pub(crate) fn zeros<const D: usize>(shape: [usize; D]) -> Self {
        Self(TensorData::new(vec![0.0_f32; shape.iter().product()], shape))
    }

    pub(crate) fn give<B: Backend, const D: usize>(self, device: &B::Device) -> Tensor<B, D> {
        Tensor::from_data(self.0, device)
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0.as_slice().unwrap_or_else(|_| panic!("a host tensor holds f32"))
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.0.as_mut_slice().unwrap_or_else(|_| panic!("a host tensor holds f32"))
    }
}

/// Rows of `width` numbers per task.
pub(crate) fn task_rows(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// Calls `f` with every row's index and the row, on all cores if there is enough to do. The last row may be shorter. `f` is a closure
/// that is always inlined, for the sake of vectors.
pub(crate) fn each_row(values: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    // One task if there is little: `f` has a single place, where it is compiled for the widest vectors.
    let rows = if values.len() <= SERIAL { values.len().div_ceil(width.max(1)).max(1) } else { task_rows(width) };
    values.par_chunks_mut(rows * width).enumerate().for_each(|(task, chunk)| {
        vectorized!({
            for (row, values) in chunk.chunks_mut(width).enumerate() {
                f(task * rows + row, values);
            }
        });
    });
}

/// Computes an expression with the widest vector instructions of this processor. Not in code that is generic over a backend, which is
/// compiled for size.
macro_rules! vectorized {
    ($compute:expr) => {{
        let once = $crate::kernels::host::Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let _once = once;
                $compute
            },
        )
    }};
}
pub(crate) use vectorized;

/// What makes a closure one that can be called only once, by being moved into it. Such a closure is itself inlined; of any other, a
/// function that calls it would be called, compiled for the instructions that every processor has.
pub(crate) struct Once;

/// `x`, or 0 if it is too small to matter to a sum of gradients. Its products stay normal numbers: processors take a hundred times
/// as long for subnormal ones, and the gradients of a sharp softmax are full of them.
#[inline(always)]
pub(crate) fn flushed(x: f32) -> f32 {
    const SMALLEST: f32 = 1e-30;
    if x.abs() < SMALLEST { 0.0 } else { x }
}

/// The sum of `f` over some values.
#[inline(always)]
pub(crate) fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += f(chunk[i]);
        }
    }
    total(lanes) + rest.iter().map(|value| f(*value)).sum::<f32>()
}

/// The sum of `f` over the pairs of two slices of equal length.
#[inline(always)]
pub(crate) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((chunks_a, rest_a), (chunks_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in chunks_a.iter().zip(chunks_b) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    total(lanes) + rest_a.iter().zip(rest_b).map(|(a, b)| f(*a, *b)).sum::<f32>()
}

/// The sum of `f` over the triples of three slices of equal length.
#[inline(always)]
pub(crate) fn sum3(a: &[f32], b: &[f32], c: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((chunks_a, rest_a), (chunks_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (chunks_c, rest_c) = c.as_chunks::<LANES>();
    for ((a, b), c) in chunks_a.iter().zip(chunks_b).zip(chunks_c) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i], c[i]);
        }
    }
    total(lanes) + rest_a.iter().zip(rest_b).zip(rest_c).map(|((a, b), c)| f(*a, *b, *c)).sum::<f32>()
}

/// The sums of two functions of the same values, in one pass.
#[inline(always)]
pub(crate) fn sums(values: &[f32], f: impl Fn(f32) -> (f32, f32)) -> (f32, f32) {
    let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            let (a, b) = f(chunk[i]);
            first[i] += a;
            second[i] += b;
        }
    }
    // The remainder is summed separately, as in `sum`, so that both give the same bits.
    let (mut a, mut b) = (0.0, 0.0);
    for value in rest {
        let more = f(*value);
        a += more.0;
        b += more.1;
    }
    (total(first) + a, total(second) + b)
}

#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    lanes.iter().sum()
}

/// The largest of some values; NaN if one is NaN.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    for chunk in chunks.by_ref() {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(f32::NEG_INFINITY, |a, b| if a.is_nan() { a } else { larger(a, *b) })
}

/// `exp(x)` to about an ulp, in operations that vectorise; 0 below the smallest normal number, NaN for NaN.
///
/// `exp(x) = 2^n exp(r)` with `|r| <= ln 2 / 2`, and the polynomial of Cephes' expf for `exp(r)`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // The last bits of a small number plus this are the number rounded to an integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first short enough that its multiples are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let inside = if x > 88.0 { 88.0 } else { x };
    let inside = if inside < -87.0 { -87.0 } else { inside };
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (inside - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let exp_r = p * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    let y = exp_r * power;
    let y = if x < -87.0 { 0.0 } else { y };
    if x > 88.0 { f32::INFINITY } else { y }
}

/// `ln(x)` of a positive normal number to about an ulp, in operations that vectorise (Cephes' logf).
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(ROOT_HALF);
    let exponent = ((shifted as i32) >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(ROOT_HALF)) - 1.0;
    let mut p = 7.037_683_6e-2;
    for coefficient in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p * m + coefficient;
    }
    let y = p * m * m * m + exponent * -2.121_944_4e-4 - 0.5 * m * m;
    m + y + exponent * 0.693_359_4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_an_ulp_or_two() {
        let mut worst = 0.0_f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
        assert_eq!((exp(0.0), exp(-1e4), exp(f32::NEG_INFINITY), exp(1e4)), (1.0, 0.0, 0.0, f32::INFINITY));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn ln_is_exact_to_an_ulp_or_two() {
        for i in 1..2_000_000 {
            let x = (f64::from(i) * 1e-5 - 10.0).exp2() as f32;
            let exact = f64::from(x).ln();
            let worst = (f64::from(ln(x)) - exact).abs() / exact.abs().max(0.1);
            assert!(worst < 2.0 * f64::from(f32::EPSILON), "{x}: {worst:e}");
        }
        assert_eq!((ln(1.0), ln(0.5)), (0.0, -std::f32::consts::LN_2));
        assert!((ln(f32::MIN_POSITIVE) - f32::MIN_POSITIVE.ln()).abs() < 1e-5);
    }

    #[test]
    fn sums_and_maxima_cover_all_values() {
        for len in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32).collect();
            let expected = values.iter().sum::<f32>();
            assert_eq!(sum(&values, |x| x), expected);
            assert_eq!(sum2(&values, &values, |x, y| 2.0 * x - y), expected);
            assert_eq!(sum3(&values, &values, &values, |x, y, z| x - y + z), expected);
            assert_eq!(sums(&values, |x| (x, 2.0 * x)), (expected, 2.0 * expected));
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        for place in [0, 3, 20] {
            let mut values = vec![1.0; 21];
            values[place] = f32::NAN;
            assert!(max(&values).is_nan());
        }
    }
}
