//! What multiplies weights.

use std::fmt;

use bupo_core::kernels::{bf16_unit, product_dtype};
use bupo_models::ComputeDtype;
use burn::tensor::backend::Backend;

/// How a device multiplies weights in layers of some compute dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Products {
    /// The dtype of the products: f32 also for bf16 on processors that are not faster in bf16.
    pub dtype: &'static str,
    /// The processor's unit for bf16, if it computes them.
    pub unit: Option<&'static str>,
}

impl Products {
    pub fn of<B: Backend>(dtype: ComputeDtype, device: &B::Device) -> Self {
        let dtype = product_dtype::<B>(dtype.dtype(), device);
        let unit = if dtype == ComputeDtype::Bf16.dtype() { bf16_unit::<B>(device) } else { None };
        Self { dtype: dtype.name(), unit: unit.map(|unit| unit.name()) }
    }
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Some(unit) => write!(f, "{} on {unit}", self.dtype),
            None => f.write_str(self.dtype),
        }
    }
}
