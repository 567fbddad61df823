//! Linear maps and embeddings, with parameters in the layout of Hugging Face.

use bupo_core::kernels::{
    PackedWeight, activation_dtype, add_rows, bf16_weight_gradient, linears, linears_of_many_rows, matmul,
};
use bupo_core::profile::{Part, timed};
use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, backend::Backend};

use super::{Gradients, Lora};
use crate::ComputeDtype;

/// `y = x W^T + b` with `W` `[out, in]`, the layout of a checkpoint.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// The adapter, if the map has one.
    pub lora: Option<Lora<B>>,
    /// The dtype of the weight in products.
    #[module(skip)]
    pub compute_dtype: ComputeDtype,
    /// How the CPU backend multiplies it.
    #[module(skip)]
    pub(crate) products: Products,
}

/// How the CPU backend multiplies a weight.
#[derive(Debug, Clone, Default)]
pub(crate) enum Products {
    /// So that the sums of a row do not depend on the other rows.
    #[default]
    Rowwise,
    /// As is fastest for many rows.
    ManyRows,
    /// In bf16 on its unit for that, packed beforehand.
    Packed(PackedWeight),
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
            Some(packed) => PackedWeight::products::<B, N>(packed, x.clone()),
            None if matches!(maps[0].products, Products::ManyRows) => {
                linears_of_many_rows(x.clone(), maps.map(Self::compute_weight))
            }
            None => linears(x.clone(), maps.map(Self::compute_weight)),
        };
        let mut added = maps.into_iter().map(|map| map.lora.as_ref().map(|lora| lora.forward(x.clone()).cast(dtype)));
        products.map(|y| {
            let parts = [biases.next().flatten(), added.next().flatten()];
            parts.into_iter().flatten().fold(y, |y, part| y + part)
        })
    }

    /// The weight for products on the CPU's unit for bf16, packed now if it was not before; `None` if products are not computed so.
    pub(super) fn packed_weight(&self) -> Option<PackedWeight> {
        match self.compute_dtype {
            ComputeDtype::F32 => None,
            ComputeDtype::Bf16 => match &self.products {
                Products::Packed(packed) => Some(packed.clone()),
                Products::Rowwise | Products::ManyRows => PackedWeight::new(self.weight.val()),
            },
        }
    }

    /// The same map for passes over many rows between two changes of the weight.
    pub(super) fn for_many_rows(self) -> Self {
        let products = self.packed_weight().map_or(Products::ManyRows, Products::Packed);
        Self { products, ..self }
    }

    /// Several maps of one input as one, whose results are one after another.
    pub(super) fn joined<const N: usize>(maps: [&Self; N]) -> Self {
        let weight = Tensor::cat(maps.map(Self::compute_weight).to_vec(), 0);
        let biases: Vec<Tensor<B, 1>> = maps.iter().filter_map(|map| Some(map.bias.as_ref()?.val())).collect();
        Self {
            weight: Param::from_tensor(weight),
            bias: (!biases.is_empty()).then(|| Param::from_tensor(Tensor::cat(biases, 0))),
            lora: None,
            compute_dtype: maps[0].compute_dtype,
            products: Products::Rowwise,
        }
    }

    /// Without its values.
    pub(super) fn dropped(self) -> Self {
        let empty = Tensor::empty([0, 0], &self.weight.device());
        Self {
            weight: Param::from_tensor(empty),
            bias: None,
            lora: None,
            compute_dtype: self.compute_dtype,
            products: Products::Rowwise,
        }
    }

    /// The weight with the adapter's change, in f32; the weight itself if the map has none.
    pub(crate) fn merged_weight(&self) -> Param<Tensor<B, 2>> {
        match &self.lora {
            Some(lora) => self.weight.clone().map(|weight| weight.cast(DType::F32) + lora.delta()),
            None => self.weight.clone(),
        }
    }

    /// The gradient with respect to `x`, from that with respect to the result; adds the gradients of the parameters.
    pub(crate) fn backward(&self, x: Tensor<B, 2>, dy: Tensor<B, 2>, gradients: &mut Gradients<B>) -> Tensor<B, 2> {
        let dx = self.input_gradient(dy.clone());
        self.accumulate_gradients(x, dy, gradients);
        dx
    }

    /// The weight in the dtype of products; no copy if it has that dtype.
    pub(super) fn compute_weight(&self) -> Tensor<B, 2> {
        let (weight, dtype) = (self.weight.val(), self.compute_dtype.dtype());
        // Products of the CPU backend read a weight in bf16 as it is.
        let is_widened = activation_dtype::<B>(DType::BF16, &weight.device()) == DType::F32;
        if is_widened && weight.dtype() == DType::BF16 { weight } else { weight.cast(dtype) }
    }

    /// The gradient with respect to the input.
    pub(crate) fn input_gradient(&self, dy: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = dy.dtype();
        let added = self.lora.as_ref().map(|lora| lora.input_gradient(dy.clone()).cast(dtype));
        let dx = self.input_gradient_of_weight(dy);
        added.into_iter().fold(dx, |dx, added| dx + added)
    }

    fn input_gradient_of_weight(&self, dy: Tensor<B, 2>) -> Tensor<B, 2> {
        if let Some(weight) = self.packed_weight() {
            return weight.input_gradient(dy);
        }
        let device = dy.device();
        timed::<B, _>(Part::MatrixProducts, &device, || {
            let weight = self.compute_weight().cast(dy.dtype());
            let dtype = dy.dtype();
            matmul(dy, weight, dtype)
        })
    }

    /// Adds the gradients of the parameters.
    pub(crate) fn accumulate_gradients(&self, x: Tensor<B, 2>, dy: Tensor<B, 2>, gradients: &mut Gradients<B>) {
        if let Some(lora) = &self.lora {
            lora.accumulate_gradients(x.clone(), dy.clone(), gradients);
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| gradients.wants(bias.id)) {
            gradients.add(bias.id, dy.clone().cast(DType::F32).sum_dim(0));
        }
        if !gradients.wants(self.weight.id) {
            return;
        }
        if let (ComputeDtype::Bf16, Some(gradient)) = (self.compute_dtype, bf16_weight_gradient(&x, &dy)) {
            return gradients.add(self.weight.id, gradient);
        }
        let device = x.device();
        timed::<B, _>(Part::MatrixProducts, &device, || {
            gradients.add(self.weight.id, matmul(dy.transpose(), x, DType::F32));
        });
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
