//! Building a decoder from named parameters, of a checkpoint or random.

use burn::module::{Param, ParamId};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::trained::Trained;
use super::{Attention, Decoder, DecoderLayer, Embedding, FeedForward, Linear, Products, RmsNorm};
use crate::families::{Family, ModelConfig};
use crate::{ComputeDtype, ModelError};

/// A source of parameters by their Hugging Face names.
pub trait ParamSource<B: Backend> {
    /// The parameter `name`, which must have this shape.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<B, D>, ModelError>;
}

impl<B: Backend> Decoder<B> {
    /// A decoder of this config with parameters from `source`, read in the checkpoint's order.
    ///
    /// # Errors
    /// The errors of the source.
    pub fn build(config: &ModelConfig, source: &mut impl ParamSource<B>) -> Result<Self, ModelError> {
        let mut builder = Builder { config, source, next_id: 0, backend: std::marker::PhantomData };
        let embed_tokens =
            Embedding { weight: builder.param("model.embed_tokens.weight", [config.vocab_size, config.hidden_size])? };
        let layers = (0..config.num_hidden_layers)
            .map(|index| builder.layer(&format!("model.layers.{index}")))
            .collect::<Result<_, _>>()?;
        let norm = builder.norm("model.norm", config.hidden_size)?;
        let lm_head = if config.tie_word_embeddings {
            None
        } else {
            Some(builder.linear("lm_head", config.vocab_size, config.hidden_size, false)?)
        };
        Ok(Self {
            embed_tokens,
            layers,
            norm,
            lm_head,
            translators: None,
            rope: config.rope.clone(),
            compute_dtype: ComputeDtype::F32,
            trained: Trained::default(),
        })
    }
}

/// Random parameters: norms 1, biases 0, matrices normal with standard deviation 0.02.
pub struct RandomInit<B: Backend> {
    rng: ChaCha8Rng,
    device: B::Device,
}

impl<B: Backend> RandomInit<B> {
    /// Random numbers are drawn on the host from `seed`, so parameters are the same on every backend.
    pub fn new(seed: u64, device: B::Device) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), device }
    }

    /// A standard normal number (Box-Muller).
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.rng.random::<f64>()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.rng.random::<f64>()).cos()) as f32
    }
}

impl<B: Backend> ParamSource<B> for RandomInit<B> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<B, D>, ModelError> {
        if name.ends_with("norm.weight") {
            return Ok(Tensor::ones(shape, &self.device));
        }
        if name.ends_with(".bias") {
            return Ok(Tensor::zeros(shape, &self.device));
        }
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| 0.02 * self.normal()).collect();
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }
}

struct Builder<'a, B: Backend, S: ParamSource<B>> {
    config: &'a ModelConfig,
    source: &'a mut S,
    next_id: u64,
    backend: std::marker::PhantomData<B>,
}

impl<B: Backend, S: ParamSource<B>> Builder<'_, B, S> {
    /// Ids count from 1, so that a parameter has the same id in every run.
    fn param<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Param<Tensor<B, D>>, ModelError> {
        self.next_id += 1;
        Ok(Param::initialized(ParamId::from(self.next_id), self.source.tensor(name, shape)?))
    }

    fn layer(&mut self, name: &str) -> Result<DecoderLayer<B>, ModelError> {
        let config = self.config;
        Ok(DecoderLayer {
            input_layernorm: self.norm(&format!("{name}.input_layernorm"), config.hidden_size)?,
            self_attn: self.attention(&format!("{name}.self_attn"))?,
            post_attention_layernorm: self.norm(&format!("{name}.post_attention_layernorm"), config.hidden_size)?,
            mlp: self.feed_forward(&format!("{name}.mlp"))?,
        })
    }

    fn attention(&mut self, name: &str) -> Result<Attention<B>, ModelError> {
        let config = self.config;
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let q_width = config.num_attention_heads * head_dim;
        let kv_width = config.num_key_value_heads * head_dim;
        let head_norms = config.family == Family::Qwen3;
        Ok(Attention {
            q_proj: self.linear(&format!("{name}.q_proj"), q_width, hidden, config.qkv_bias)?,
            k_proj: self.linear(&format!("{name}.k_proj"), kv_width, hidden, config.qkv_bias)?,
            v_proj: self.linear(&format!("{name}.v_proj"), kv_width, hidden, config.qkv_bias)?,
            o_proj: self.linear(&format!("{name}.o_proj"), hidden, q_width, config.output_bias)?,
            q_norm: head_norms.then(|| self.norm(&format!("{name}.q_norm"), head_dim)).transpose()?,
            k_norm: head_norms.then(|| self.norm(&format!("{name}.k_norm"), head_dim)).transpose()?,
            head_dim,
            qkv: None,
        })
    }

    fn feed_forward(&mut self, name: &str) -> Result<FeedForward<B>, ModelError> {
        let config = self.config;
        let (hidden, inner, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        Ok(FeedForward {
            gate_proj: self.linear(&format!("{name}.gate_proj"), inner, hidden, bias)?,
            up_proj: self.linear(&format!("{name}.up_proj"), inner, hidden, bias)?,
            down_proj: self.linear(&format!("{name}.down_proj"), hidden, inner, bias)?,
            gate_up: None,
        })
    }

    fn linear(&mut self, name: &str, output: usize, input: usize, bias: bool) -> Result<Linear<B>, ModelError> {
        Ok(Linear {
            weight: self.param(&format!("{name}.weight"), [output, input])?,
            bias: bias.then(|| self.param(&format!("{name}.bias"), [output])).transpose()?,
            lora: None,
            compute_dtype: ComputeDtype::F32,
            products: Products::Rowwise,
        })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<RmsNorm<B>, ModelError> {
        Ok(RmsNorm { weight: self.param(&format!("{name}.weight"), [width])?, eps: self.config.rms_norm_eps })
    }
}
