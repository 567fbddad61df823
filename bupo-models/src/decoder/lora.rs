//! Low-rank adapters of linear maps (LoRA, arXiv 2106.09685): `y = x W^T + b + s (x A^T) B^T`.

use bupo_core::kernels::{linear, matmul};
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::Gradients;

/// The adapter of one linear map. Its parameters and products are in f32 whatever the dtype of the map.
#[derive(Module, Debug)]
pub struct Lora<B: Backend> {
    /// `[rank, in]`, `lora_A` in PEFT.
    pub a: Param<Tensor<B, 2>>,
    /// `[out, rank]`, `lora_B` in PEFT.
    pub b: Param<Tensor<B, 2>>,
    /// `s`: alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732).
    #[module(skip)]
    pub scale: f64,
    /// The probability with which an input of the adapter is 0 in a pass of an update.
    #[module(skip)]
    pub dropout: f64,
    /// The seed of the inputs dropped in the passes of an update; `None` in all other passes.
    #[module(skip)]
    pub(crate) dropout_seed: Option<u64>,
}

impl<B: Backend> Lora<B> {
    pub(crate) fn new(a: Param<Tensor<B, 2>>, b: Param<Tensor<B, 2>>, scale: f64, dropout: f64) -> Self {
        Self { a, b, scale, dropout, dropout_seed: None }
    }

    /// The same adapter with another seed of dropped inputs.
    pub(crate) fn with_seed(self, dropout_seed: Option<u64>) -> Self {
        Self { dropout_seed, ..self }
    }

    /// What the adapter adds for rows `[tokens, in]`: `[tokens, out]`, in f32.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let inner = linear(self.with_dropout(x.cast(DType::F32)), self.a.val());
        linear(inner, self.b.val()) * self.scale
    }

    /// The gradient with respect to the input, in f32, from that with respect to the result.
    pub(super) fn input_gradient(&self, dy: Tensor<B, 2>) -> Tensor<B, 2> {
        self.with_dropout(matmul(self.inner_gradient(dy.cast(DType::F32)), self.a.val(), DType::F32))
    }

    /// Adds the gradients of the parameters.
    pub(super) fn accumulate_gradients(&self, x: Tensor<B, 2>, dy: Tensor<B, 2>, gradients: &mut Gradients<B>) {
        let (x, dy) = (self.with_dropout(x.cast(DType::F32)), dy.cast(DType::F32));
        let inner = linear(x.clone(), self.a.val());
        gradients.add(self.b.id, matmul(dy.clone().transpose(), inner, DType::F32) * self.scale);
        gradients.add(self.a.id, matmul(self.inner_gradient(dy).transpose(), x, DType::F32));
    }

    /// The change of the map's weight, `[out, in]`: `s B A`.
    pub(super) fn delta(&self) -> Tensor<B, 2> {
        matmul(self.b.val(), self.a.val(), DType::F32) * self.scale
    }

    /// With respect to `x A^T`, `[tokens, rank]`.
    fn inner_gradient(&self, dy: Tensor<B, 2>) -> Tensor<B, 2> {
        matmul(dy, self.b.val(), DType::F32) * self.scale
    }

    /// Inputs, or their gradients, with those of dropped inputs 0 and the others divided by the share that is kept.
    fn with_dropout(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(seed) = self.dropout_seed.filter(|_| self.dropout > 0.0) else { return x };
        // Drawn on the host, so that every backend with the same layout of batches drops the same.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(self.a.id.val());
        let kept = (1.0 / (1.0 - self.dropout)) as f32;
        let shape = x.dims();
        let draw = |_| if rng.random::<f32>() < self.dropout as f32 { 0.0 } else { kept };
        let mask: Vec<f32> = (0..shape.iter().product::<usize>()).map(draw).collect();
        let device = x.device();
        x * Tensor::from_data(TensorData::new(mask, shape), &device)
    }
}
