//! What one forward pass carries from layer to layer.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::{RopeConfig, Rotation};
use crate::generate::KvCache;

/// The score of a slot that must not be read; finite, so that a row with nothing to read stays finite too.
pub(crate) const MASKED: f32 = -1e9;

/// Positions, mask and cache of one forward pass.
#[derive(Debug)]
pub struct Pass<B: Backend> {
    pub(crate) rotation: Rotation<B>,
    /// Added to the scores, `[1 or batch, 1, seq, slots]`; nothing where every slot may be read.
    pub(crate) mask: Option<Tensor<B, 4>>,
    pub(crate) cache: Option<KvCache<B>>,
}

impl<B: Backend> Pass<B> {
    /// A pass over whole sequences from their first token, every token seeing those before it.
    ///
    /// Shorter sequences are padded on the right: what follows a token never reaches it.
    pub(crate) fn whole(rope: &RopeConfig, head_dim: usize, seq: usize, device: &B::Device) -> Self {
        let mask = (seq > 1).then(|| {
            let values: Vec<f32> =
                (0..seq).flat_map(|row| (0..seq).map(move |slot| if slot > row { MASKED } else { 0.0 })).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, seq, seq]), device)
        });
        Self { rotation: Rotation::new(rope, head_dim, &[(0..seq).collect()], device), mask, cache: None }
    }
}
