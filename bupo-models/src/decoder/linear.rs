//! Linear maps and embeddings, with parameters in the layout of Hugging Face.

use bupo_core::kernels::{PackedWeight, add_rows, bf16_weight_gradient, linears};
use bupo_core::profile::{Part, timed};
use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, backend::Backend};

use super::Gradients;
use crate::ComputeDtype;

/// `y = x W^T + b` with `W` `[out, in]`, the layout of a checkpoint.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// The dtype of the weight in products.
    #[module(skip)]
    pub compute_dtype: ComputeDtype,
    /// The weight for products in bf16 on the CPU's unit, where it was packed beforehand.
    #[module(skip)]
    pub(crate) packed: Option<PackedWeight>,
}

/// A table of token embeddings.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[vocab, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> Linear<B> {
    /// Applies the map to rows `[tokens, in]`.
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [y] = Self::forward_all([self], x);
        y
    }

    /// Applies several maps to the same rows.
    pub(crate) fn forward_all<const N: usize>(maps: [&Self; N], x: Tensor<B, 2>) -> [Tensor<B, 2>; N] {
        let dtype = x.dtype();
        let mut biases = maps.into_iter().map(|map| map.bias.as_ref().map(|bias| bias.val().cast(dtype).unsqueeze()));
        let packed: Option<Vec<PackedWeight>> = maps.into_iter().map(Self::packed_weight).collect();
        let products = match packed.and_then(|packed| packed.try_into().ok()) {
            Some(packed) => PackedWeight::products::<B, N>(packed, x),
            None => linears(x, maps.map(Self::compute_weight)),
        };
        products.map(|y| match biases.next().flatten() {
            Some(bias) => y + bias,
            None => y,
        })
    }

    /// The weight for products on the CPU's unit for bf16, packed now if it was not before; `None` if products are not computed so.
    pub(super) fn packed_weight(&self) -> Option<PackedWeight> {
        match self.compute_dtype {
            ComputeDtype::F32 => None,
            ComputeDtype::Bf16 => self.packed.clone().or_else(|| PackedWeight::new(self.weight.val())),
        }
    }

    /// Several maps of one input as one, whose results are one after another.
    pub(super) fn joined<const N: usize>(maps: [&Self; N]) -> Self {
        let weight = Tensor::cat(maps.map(Self::compute_weight).to_vec(), 0);
        let biases: Vec<Tensor<B, 1>> = maps.iter().filter_map(|map| Some(map.bias.as_ref()?.val())).collect();
        Self {
            weight: Param::from_tensor(weight),
            bias: (!biases.is_empty()).then(|| Param::from_tensor(Tensor::cat(biases, 0))),
            compute_dtype: maps[0].compute_dtype,
            packed: None,
        }
    }

    /// Without its values.
    pub(super) fn dropped(self) -> Self {
        let empty = Tensor::empty([0, 0], &self.weight.device());
        Self { weight: Param::from_tensor(empty), bias: None, compute_dtype: self.compute_dtype, packed: None }
    }

    /// The gradient with respect to `x`, from that with respect to the result; adds the gradients of the parameters.
    pub(crate) fn backward(&self, x: Tensor<B, 2>, dy: Tensor<B, 2>, gradients: &mut Gradients<B>) -> Tensor<B, 2> {
        let dx = self.input_gradient(dy.clone());
        self.accumulate_gradients(x, dy, gradients);
        dx
    }

    /// The weight in the dtype of products; no copy if it has that dtype.
    fn compute_weight(&self) -> Tensor<B, 2> {
        self.weight.val().cast(self.compute_dtype.dtype())
    }

    /// The gradient with respect to the input.
    pub(crate) fn input_gradient(&self, dy: Tensor<B, 2>) -> Tensor<B, 2> {
        if let Some(weight) = self.packed_weight() {
            return weight.input_gradient(dy);
        }
        let device = dy.device();
        timed::<B, _>(Part::MatrixProducts, &device, || {
            let weight = self.compute_weight().cast(dy.dtype());
            dy.matmul(weight)
        })
    }

    /// Adds the gradients of the parameters.
    pub(crate) fn accumulate_gradients(&self, x: Tensor<B, 2>, dy: Tensor<B, 2>, gradients: &mut Gradients<B>) {
        if let Some(bias) = &self.bias {
            gradients.add(bias.id, dy.clone().cast(DType::F32).sum_dim(0));
        }
        if let (ComputeDtype::Bf16, Some(gradient)) = (self.compute_dtype, bf16_weight_gradient(&x, &dy)) {
            return gradients.add(self.weight.id, gradient);
        }
        let device = x.device();
        timed::<B, _>(Part::MatrixProducts, &device, || gradients.add(self.weight.id, dy.transpose().matmul(x)));
    }
}

impl<B: Backend> Embedding<B> {
    /// Looks up `[batch, seq]` ids.
    pub(crate) fn forward(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [batch, seq] = tokens.dims();
        let rows = self.weight.val().select(0, tokens.flatten::<1>(0, 1));
        let hidden = rows.dims()[1];
        rows.reshape([batch, seq, hidden])
    }

    /// Adds the gradient of the table, from that with respect to the looked-up rows, `[batch * seq, hidden]`.
    pub(crate) fn add_gradient(&self, tokens: Tensor<B, 2, Int>, dy: Tensor<B, 2>, gradients: &mut Gradients<B>) {
        let weight = self.weight.val();
        // If the unembedding is tied, the rows are added to its gradient rather than to a second table.
        let table =
            gradients.take(self.weight.id).map_or_else(|| weight.zeros_like(), |sum| sum.reshape(weight.dims()));
        gradients.add(self.weight.id, add_rows(table, tokens.flatten::<1>(0, 1), dy));
    }
}
