//! One decoder that serves Qwen3, Qwen2 (2.5) and Llama by its config, split into contributions.

mod attention;
mod build;
mod feed_forward;
mod linear;
mod norm;
mod params;
mod pass;
mod rope;

use bupo_core::{AttnContribution, FfnContribution, ResidualDecoder};
use burn::module::{Module, ParamId};
use burn::tensor::{Int, Tensor, backend::Backend};

pub use attention::Attention;
pub use build::{ParamSource, RandomInit};
pub use feed_forward::FeedForward;
pub use linear::{Embedding, Linear};
pub use norm::RmsNorm;
pub use params::{NamedTensor, differentiable, named_tensors, untracked};
pub(crate) use pass::MASKED;
pub use pass::Pass;
pub use rope::{Llama3Scaling, RopeConfig, Rotation};

/// A pre-norm decoder. Fields are named as in the checkpoint, so that a parameter's path is its name there.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// `H^0` of each token, `[vocab, hidden]`.
    pub embed_tokens: Embedding<B>,
    /// The layers, first to last.
    pub layers: Vec<DecoderLayer<B>>,
    /// The norm before the full policy's unembedding.
    pub norm: RmsNorm<B>,
    /// The unembedding, absent where it is the embedding.
    pub lm_head: Option<Linear<B>>,
    #[module(skip)]
    rope: RopeConfig,
}

/// One layer: attention and feed-forward, each behind its norm.
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

    /// Where the weights are.
    pub fn device(&self) -> B::Device {
        self.norm.weight.device()
    }

    /// The id of the parameter that is the unembedding: the embedding's where they are tied.
    pub fn unembedding_id(&self) -> ParamId {
        self.lm_head.as_ref().map_or(self.embed_tokens.weight.id, |head| head.weight.id)
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.layers.first().map_or(2, |layer| layer.self_attn.head_dim)
    }

    /// The numbers of query heads and of key and value heads.
    pub(crate) fn heads(&self) -> (usize, usize) {
        let count = |projection: &Linear<B>| projection.weight.dims()[0] / self.head_dim();
        self.layers.first().map_or((1, 1), |layer| (count(&layer.self_attn.q_proj), count(&layer.self_attn.k_proj)))
    }
}

impl<B: Backend> ResidualDecoder<B> for Decoder<B> {
    type Pass = Pass<B>;

    fn num_layers(&self) -> usize {
        self.layers.len()
    }

    fn embed(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        self.embed_tokens.forward(tokens)
    }

    fn attention(&self, layer: usize, resid_pre: Tensor<B, 3>, pass: &mut Pass<B>) -> AttnContribution<B> {
        let weights = &self.layers[layer - 1];
        let input = weights.input_layernorm.forward(resid_pre);
        AttnContribution { output: weights.self_attn.forward(layer, input.clone(), pass), input }
    }

    fn feed_forward(&self, layer: usize, resid_mid: Tensor<B, 3>) -> FfnContribution<B> {
        let weights = &self.layers[layer - 1];
        let input = weights.post_attention_layernorm.forward(resid_mid);
        FfnContribution { output: weights.mlp.forward(input.clone()), input }
    }

    fn final_norm(&self, state: Tensor<B, 3>) -> Tensor<B, 3> {
        self.norm.forward(state)
    }

    fn unembedding(&self) -> Tensor<B, 2> {
        self.lm_head.as_ref().map_or_else(|| self.embed_tokens.weight.val(), |head| head.weight.val())
    }
}
