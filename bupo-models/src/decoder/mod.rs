//! The decoder of all families, split into contributions.

mod attention;
mod backward;
mod build;
mod context;
mod feed_forward;
mod gradients;
mod linear;
mod lora;
mod norm;
mod params;
mod trained;
mod translators;

use bupo_core::kernels::{activation_dtype, product_dtype, widens_products};
use bupo_core::{AttnContribution, CoreError, FfnContribution, InternalPolicy, LayerContributions, ResidualDecoder};
use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Int, Tensor, backend::Backend};

use crate::ComputeDtype;
use crate::families::RopeConfig;

pub use attention::Attention;
pub use backward::{LayerGradient, SavedActivations};
pub use build::{ParamSource, RandomInit};
pub use context::ForwardContext;
pub use feed_forward::FeedForward;
pub use gradients::Gradients;
pub(crate) use linear::Products;
pub use linear::{Embedding, Linear};
pub use lora::Lora;
pub use norm::RmsNorm;
pub use params::{NamedTensor, named_tensors, named_tensors_up_to, parameter_ids, parameter_lengths};
pub use translators::Translators;

/// A pre-norm decoder. Fields are named as in the checkpoint, so that a parameter's path is its name there.
///
/// Layers compute in the dtype of [`Self::with_compute_dtype`]; the unembedding and the final norm always in f32.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// `H^0` of each token, `[vocab, hidden]`.
    pub embed_tokens: Embedding<B>,
    /// The layers, first to last.
    pub layers: Vec<DecoderLayer<B>>,
    /// The norm before the full policy's unembedding.
    pub norm: RmsNorm<B>,
    /// The unembedding; `None` if it is tied to the embedding.
    pub lm_head: Option<Linear<B>>,
    /// The tuned lens, if one was given; no part of the model.
    translators: Option<Translators<B>>,
    #[module(skip)]
    rope: RopeConfig,
    #[module(skip)]
    compute_dtype: ComputeDtype,
    #[module(skip)]
    trained: trained::Trained,
}

/// One layer: attention and feed-forward, each after its norm.
#[derive(Module, Debug)]
pub struct DecoderLayer<B: Backend> {
    /// `norm_in`.
    pub input_layernorm: RmsNorm<B>,
    /// The attention half.
    pub self_attn: Attention<B>,
    /// `norm_post`.
    pub post_attention_layernorm: RmsNorm<B>,
    /// The feed-forward half.
    pub mlp: FeedForward<B>,
}

impl<B: Backend> Decoder<B> {
    /// The size of the vocabulary, V.
    pub fn vocab_size(&self) -> usize {
        self.embed_tokens.weight.dims()[0]
    }

    /// The device of the weights.
    pub fn device(&self) -> B::Device {
        self.norm.weight.device()
    }

    /// The same decoder with another compute dtype; its parameters are unchanged.
    pub fn with_compute_dtype(self, compute_dtype: ComputeDtype) -> Self {
        let with_dtype =
            |_: usize, _: &str, linear: Linear<B>| Linear { compute_dtype, products: Products::Rowwise, ..linear };
        Self { compute_dtype, ..self.with_projections(with_dtype) }
    }

    /// The dtype that layers compute in.
    pub fn compute_dtype(&self) -> ComputeDtype {
        self.compute_dtype
    }

    /// The dtype of activations: the compute dtype, but f32 on the CPU backend, where it is that of products only.
    pub(crate) fn activation_dtype(&self) -> DType {
        activation_dtype::<B>(self.compute_dtype.dtype(), &self.device())
    }

    /// The dtype in which the widest activations are saved for the backward pass: the compute dtype where products round to it too.
    pub(crate) fn saved_dtype(&self) -> DType {
        product_dtype::<B>(self.compute_dtype.dtype(), &self.device())
    }

    /// A decoder without layers or values, to replace this one temporarily while its parameters are moved out.
    pub fn placeholder(&self) -> Self {
        let device = self.device();
        let matrix = || Param::from_tensor(Tensor::empty([0, 0], &device));
        Self {
            embed_tokens: Embedding { weight: matrix() },
            layers: Vec::new(),
            norm: RmsNorm { weight: Param::from_tensor(Tensor::empty([0], &device)), eps: self.norm.eps },
            lm_head: None,
            translators: None,
            rope: self.rope.clone(),
            compute_dtype: self.compute_dtype,
            trained: self.trained.clone(),
        }
    }

    /// The id of the unembedding parameter, which is the embedding's if they are tied.
    pub fn unembedding_id(&self) -> ParamId {
        self.lm_head.as_ref().map_or(self.embed_tokens.weight.id, |head| head.weight.id)
    }

    /// The policy of states `[tokens, hidden]` that generates and is trained. In bf16 its logits are products of states and the
    /// unembedding in bf16, where a device [sums](widens_products) these into f32, else of f32.
    pub fn policy(&self, states: Tensor<B, 2>) -> InternalPolicy<B> {
        let weight = self.lm_head.as_ref().map_or(&self.embed_tokens.weight, |head| &head.weight);
        InternalPolicy::new(states, weight.val().cast(self.unembedding_dtype()))
    }

    fn unembedding_dtype(&self) -> DType {
        if self.compute_dtype == ComputeDtype::Bf16 && widens_products::<B>() { DType::BF16 } else { DType::F32 }
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.layers.first().map_or(2, |layer| layer.self_attn.head_dim)
    }
}

impl<B: Backend> ResidualDecoder<B> for Decoder<B> {
    type Context = ForwardContext<B>;

    fn num_layers(&self) -> usize {
        self.layers.len()
    }

    fn embed(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        self.embed_tokens.forward(tokens).cast(self.activation_dtype())
    }

    fn attention(&self, layer: usize, resid_pre: Tensor<B, 3>, context: &mut ForwardContext<B>) -> AttnContribution<B> {
        let (weights, shape) = (&self.layers[layer - 1], resid_pre.dims());
        let input = weights.input_layernorm.forward(resid_pre.flatten(0, 1));
        let output = weights.self_attn.contribution(layer, input.clone(), context);
        AttnContribution { input: input.reshape(shape), output: output.reshape(shape) }
    }

    fn feed_forward(&self, layer: usize, resid_mid: Tensor<B, 3>) -> FfnContribution<B> {
        let (weights, shape) = (&self.layers[layer - 1], resid_mid.dims());
        let input = weights.post_attention_layernorm.forward(resid_mid.flatten(0, 1));
        let output = weights.mlp.contribution(input.clone());
        FfnContribution { input: input.reshape(shape), output: output.reshape(shape) }
    }

    /// The addition before the feed-forward and the norm of its result are one operation.
    fn layer(&self, layer: usize, resid_pre: Tensor<B, 3>, context: &mut ForwardContext<B>) -> LayerContributions<B> {
        let (weights, shape) = (&self.layers[layer - 1], resid_pre.dims());
        let attn = self.attention(layer, resid_pre.clone(), context);
        let [before, attn_out] = [&resid_pre, &attn.output].map(|states| states.clone().flatten(0, 1));
        let (resid_mid, input) = weights.post_attention_layernorm.forward_of_sum(before, attn_out);
        let output = weights.mlp.contribution(input.clone());
        let resid_post = (resid_mid.clone() + output.clone()).reshape(shape);
        let ffn = FfnContribution { input: input.reshape(shape), output: output.reshape(shape) };
        LayerContributions { layer, resid_pre, attn, resid_mid: resid_mid.reshape(shape), ffn, resid_post }
    }

    fn final_norm(&self, state: Tensor<B, 3>) -> Tensor<B, 3> {
        let shape = state.dims();
        self.norm.forward(state.flatten(0, 1).cast(DType::F32)).reshape(shape)
    }

    fn translated(&self, layer: usize, state: Tensor<B, 3>) -> Result<Tensor<B, 3>, CoreError> {
        let shape = state.dims();
        Ok(self.translated_rows(layer, state.flatten(0, 1))?.reshape(shape))
    }

    /// In f32: a copy, if it is kept in another dtype.
    fn unembedding(&self) -> Tensor<B, 2> {
        let weight = self.lm_head.as_ref().map_or(&self.embed_tokens.weight, |head| &head.weight);
        weight.val().cast(DType::F32)
    }
}
