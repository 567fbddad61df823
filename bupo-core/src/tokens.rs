//! Token ids on a device.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

/// Token ids as a tensor on `device`, `[ids]`.
pub fn token_tensor<B: Backend>(ids: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let len = ids.len();
    Tensor::from_data(TensorData::new(ids, [len]), device)
}
