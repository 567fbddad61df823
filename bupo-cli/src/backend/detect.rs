//! Parts of device detection that the kinds of devices share.

use burn::tensor::DType;
use burn::tensor::backend::Backend;

#[cfg(any(feature = "cpu", feature = "cuda"))]
use super::kind::Memory;

/// The floating-point formats that a backend supports on a device.
pub fn supported_dtypes<B: Backend>(device: &B::Device) -> Vec<&'static str> {
    let all = [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)];
    all.into_iter().filter(|(_, dtype)| B::supports_dtype(device, *dtype)).map(|(name, _)| name).collect()
}

// WGPU does not report free memory.
#[cfg(any(feature = "cpu", feature = "cuda"))]
impl Memory {
    pub fn describe(self) -> String {
        format!("{}, {} free", bytesize::ByteSize(self.total), bytesize::ByteSize(self.free))
    }
}
