//! What one forward pass carries from layer to layer.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::{Decoder, Rotation};
use crate::generate::KvCache;

/// The score of a slot that must not be read; finite, so that a row with nothing to read stays finite too.
pub(crate) const MASKED: f32 = -1e9;

/// Positions, mask and cache of one forward pass.
#[derive(Debug)]
pub struct Pass<B: Backend> {
    pub(crate) q_rotation: Rotation<B>,
    pub(crate) k_rotation: Rotation<B>,
    /// Added to the scores, `[1 or batch * heads, seq * slots]`; nothing where every slot may be read.
    pub(crate) mask: Option<Tensor<B, 2>>,
    pub(crate) cache: Option<KvCache<B>>,
}

impl<B: Backend> Decoder<B> {
    /// A pass over whole sequences of `seq` tokens from position 0, every token seeing those before it.
    ///
    /// Shorter sequences are padded on the right: what follows a token never reaches it.
    pub fn whole_pass(&self, seq: usize) -> Pass<B> {
        let device = self.device();
        let rotation = Rotation::new(&self.rope, self.head_dim(), 1, &[(0..seq).collect()], &device);
        let mask = (seq > 1).then(|| {
            let values: Vec<f32> =
                (0..seq).flat_map(|row| (0..seq).map(move |slot| if slot > row { MASKED } else { 0.0 })).collect();
            Tensor::from_data(TensorData::new(values, [1, seq * seq]), &device)
        });
        Pass { q_rotation: rotation.clone(), k_rotation: rotation, mask, cache: None }
    }
}

impl<B: Backend> Pass<B> {
    /// Moves on to one token a row, at each row's own position. `holes` `[rows, slots]` is added to every head's
    /// scores.
    pub(crate) fn next_token(&mut self, decoder: &Decoder<B>, positions: &[usize], holes: Option<Tensor<B, 2>>) {
        let device = decoder.device();
        let (heads, kv_heads) = decoder.heads();
        let positions: Vec<Vec<usize>> = positions.iter().map(|position| vec![*position]).collect();
        let rotation = |heads| Rotation::new(&decoder.rope, decoder.head_dim(), heads, &positions, &device);
        self.q_rotation = rotation(heads);
        self.k_rotation = rotation(kv_heads);
        self.mask = holes.map(|holes| {
            let [rows, slots] = holes.dims();
            holes.unsqueeze_dim::<3>(1).repeat_dim(1, heads).reshape([rows * heads, slots])
        });
    }
}
