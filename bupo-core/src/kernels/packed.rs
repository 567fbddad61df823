//! Products in bf16 on the CPU's unit for them, with weights packed once for many products.

use std::sync::Arc;

use bupo_gemm::{Bf16Unit, PackedWeights, packed_products};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::host::{HostView, hosts};
use crate::profile::{Part, timed};

/// A weight `[out, in]`, rounded to bf16 and packed for the CPU's unit. It takes two bytes a number.
#[derive(Debug, Clone)]
pub struct PackedWeight(Arc<PackedWeights>);

/// The unit that computes products in bf16 on this device, if it is the CPU backend and the processor has one that is faster than
/// f32.
pub fn bf16_unit<B: Backend>(device: &B::Device) -> Option<Bf16Unit> {
    Bf16Unit::chosen().filter(|_| hosts::<B>(DType::F32, device))
}

/// The dtype in which this device multiplies weights, in layers that compute in `dtype`: f32 on the CPU backend if it has no
/// [`bf16_unit`].
pub fn product_dtype<B: Backend>(dtype: DType, device: &B::Device) -> DType {
    let widens = hosts::<B>(DType::F32, device) && bf16_unit::<B>(device).is_none();
    if widens { DType::F32 } else { dtype }
}

impl PackedWeight {
    /// Packs a weight in f32 or bf16; `None` if the device has no [`bf16_unit`].
    pub fn new<B: Backend>(weight: Tensor<B, 2>) -> Option<Self> {
        let device = weight.device();
        let unit = bf16_unit::<B>(&device)?;
        let inner = weight.dims()[1];
        let packed = || PackedWeights::new(unit, HostView::of(weight.cast(DType::F32)).values(), inner);
        Some(Self(Arc::new(timed::<B, _>(Part::MatrixProducts, &device, packed))))
    }

    /// `x w^T` of each of `weights`, of `x` `[rows, in]`.
    pub fn products<B: Backend, const N: usize>(weights: [Self; N], x: Tensor<B, 2>) -> [Tensor<B, 2>; N] {
        let ([rows, _], device) = (x.dims(), x.device());
        timed::<B, _>(Part::MatrixProducts, &device, || {
            let results = packed_products(HostView::of(x).values(), &weights.each_ref().map(|weight| &*weight.0));
            let mut results = results.into_iter();
            weights.map(|weight| matrix(results.next().unwrap_or_default(), [rows, weight.0.out()], &device))
        })
    }

    /// The gradient with respect to `x`, from that with respect to the product, `[rows, out]`.
    pub fn input_gradient<B: Backend>(&self, dy: Tensor<B, 2>) -> Tensor<B, 2> {
        let ([rows, _], device) = (dy.dims(), dy.device());
        timed::<B, _>(Part::MatrixProducts, &device, || {
            matrix(self.0.input_gradient(HostView::of(dy).values()), [rows, self.0.inner()], &device)
        })
    }
}

/// The gradient with respect to a weight, in f32, of both factors rounded to bf16: from `x` `[rows, in]` and the gradient with
/// respect to the product, `[rows, out]`. `None` if the device has no [`bf16_unit`].
pub fn bf16_weight_gradient<B: Backend>(x: &Tensor<B, 2>, dy: &Tensor<B, 2>) -> Option<Tensor<B, 2>> {
    let ([_, inner], [_, out], device) = (x.dims(), dy.dims(), x.device());
    let unit = bf16_unit::<B>(&device)?;
    Some(timed::<B, _>(Part::MatrixProducts, &device, || {
        let (x, dy) = (HostView::of(x.clone()), HostView::of(dy.clone()));
        matrix(unit.weight_gradient(dy.values(), out, x.values(), inner), [out, inner], &device)
    }))
}

fn matrix<B: Backend>(values: Vec<f32>, shape: [usize; 2], device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
