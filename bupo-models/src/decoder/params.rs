//! A decoder's parameters by their Hugging Face names.

use std::collections::BTreeMap;

use bupo_core::kernels::runs_on_gpu;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

use super::{Attention, Decoder, DecoderLayer, Embedding, FeedForward, Linear, Products};

/// The decoder's field of the tuned lens.
const LENS: &str = "translators";

/// A parameter read back to the host.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// As in a Hugging Face checkpoint: `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Its id in the module and in [`Gradients`](super::Gradients).
    pub id: ParamId,
    /// Values and shape.
    pub data: TensorData,
}

/// All parameters of a decoder but those of its adapter and its tuned lens, in the checkpoint's order.
pub fn named_tensors<B: Backend>(decoder: &Decoder<B>) -> Vec<NamedTensor> {
    named_tensors_up_to(decoder, decoder.layers.len())
}

/// The parameters of the embedding, the first `layers` layers, the final norm and the unembedding, in the checkpoint's order.
pub fn named_tensors_up_to<B: Backend>(decoder: &Decoder<B>, layers: usize) -> Vec<NamedTensor> {
    let mut reader = Reader { layers, path: Vec::new(), tensors: Vec::new() };
    decoder.visit(&mut reader);
    reader.tensors
}

/// The number of weights of every parameter but those of a tuned lens, by its id.
pub fn parameter_lengths<B: Backend>(decoder: &Decoder<B>) -> BTreeMap<u64, usize> {
    let mut lengths = Lengths { is_of_lens: false, lengths: BTreeMap::new() };
    decoder.visit(&mut lengths);
    lengths.lengths
}

/// The ids of every parameter but those of an adapter and a tuned lens, by its name in a checkpoint.
pub fn parameter_ids<B: Backend>(decoder: &Decoder<B>) -> BTreeMap<String, u64> {
    let mut ids = Ids { path: Vec::new(), ids: BTreeMap::new() };
    decoder.visit(&mut ids);
    ids.ids
}

struct Ids {
    path: Vec<String>,
    ids: BTreeMap<String, u64>,
}

impl<B: Backend> ModuleVisitor<B> for Ids {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !is_beside_model(&self.path) {
            self.ids.insert(param_name(&self.path), param.id.val());
        }
    }
}

struct Lengths {
    is_of_lens: bool,
    lengths: BTreeMap<u64, usize>,
}

impl<B: Backend> ModuleVisitor<B> for Lengths {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.is_of_lens |= name == LENS;
    }

    fn exit_module(&mut self, name: &str, _container: &str) {
        self.is_of_lens &= name != LENS;
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !self.is_of_lens {
            self.lengths.insert(param.id.val(), param.val().shape().num_elements());
        }
    }
}

/// Whether a parameter is of an adapter or of a tuned lens, which have files of their own.
fn is_beside_model(path: &[String]) -> bool {
    path.iter().any(|module| module == "lora" || module == LENS)
}

/// The checkpoint's name of the parameter with a module path such as `["layers", "0", "mlp", "up_proj", "weight"]`.
fn param_name(path: &[String]) -> String {
    let path = path.join(".");
    if path.starts_with("lm_head") { path } else { format!("model.{path}") }
}

impl<B: Backend> Decoder<B> {
    /// The same decoder with its layers' weights in the compute dtype alone, for inference only: cast to it, or packed for the
    /// CPU's unit for bf16.
    pub fn cast_weights(self) -> Self {
        self.with_projections(|_, _, linear| match linear.packed_weight() {
            Some(packed) => Linear {
                weight: linear.weight.map(|weight| Tensor::empty([0, 0], &weight.device())),
                products: Products::Packed(packed),
                ..linear
            },
            None => {
                let weight = linear.compute_weight();
                Linear { weight: linear.weight.map(|_| weight), ..linear }
            }
        })
        .with_unembedding_in_f32()
    }

    /// The same decoder with its layers' matrices kept in a dtype, which training keeps them in.
    pub fn with_layer_weights(self, dtype: DType) -> Self {
        self.with_projections(|_, _, linear| Linear {
            weight: linear.weight.map(|weight| weight.cast(dtype)),
            ..linear
        })
    }

    /// The dtype that the layers' matrices are kept in.
    pub fn layer_weight_dtype(&self) -> DType {
        self.layers.first().map_or(DType::F32, |layer| layer.self_attn.q_proj.weight.val().dtype())
    }

    /// The same decoder with the maps of one input joined, where the kernels of GPUs run, for generation only: each joined map
    /// is one product, and its parts are dropped. Maps that have adapters stay apart.
    pub(crate) fn joined(self) -> Self {
        if !runs_on_gpu::<B>() || self.has_adapter() {
            return self;
        }
        let layer = |layer: DecoderLayer<B>| {
            let (attention, mlp) = (layer.self_attn, layer.mlp);
            let qkv = Linear::joined([&attention.q_proj, &attention.k_proj, &attention.v_proj]);
            let gate_up = Linear::joined([&mlp.gate_proj, &mlp.up_proj]);
            DecoderLayer {
                self_attn: Attention {
                    q_proj: attention.q_proj.dropped(),
                    k_proj: attention.k_proj.dropped(),
                    v_proj: attention.v_proj.dropped(),
                    qkv: Some(qkv),
                    ..attention
                },
                mlp: FeedForward {
                    gate_proj: mlp.gate_proj.dropped(),
                    up_proj: mlp.up_proj.dropped(),
                    gate_up: Some(gate_up),
                    ..mlp
                },
                ..layer
            }
        };
        Self { layers: self.layers.into_iter().map(layer).collect(), ..self }
    }

    /// A copy that shares the parameters, for passes over many rows between two changes of the parameters: the CPU backend multiplies the
    /// weights of the first `layers` layers as is fastest for many rows, packed once if its unit for bf16 does, and the unembedding is in f32.
    pub fn for_many_rows(&self, layers: usize) -> Self {
        let many = self.clone().with_projections(
            |layer, _, linear| {
                if layer <= layers { linear.for_many_rows() } else { linear }
            },
        );
        many.with_unembedding_in_f32()
    }

    /// The same decoder with an unembedding that is kept in another dtype cast to f32 once, instead of in every pass.
    fn with_unembedding_in_f32(self) -> Self {
        self.with_unembedding_in(DType::F32)
    }

    /// The same decoder with its unembedding in the dtype of its products, for generation only.
    pub(crate) fn with_lowered_unembedding(self) -> Self {
        let dtype = self.unembedding_dtype();
        self.with_unembedding_in(dtype)
    }

    fn with_unembedding_in(self, dtype: DType) -> Self {
        let cast = |weight: Param<Tensor<B, 2>>| weight.map(|weight| weight.cast(dtype));
        match self.lm_head {
            Some(head) => Self { lm_head: Some(Linear { weight: cast(head.weight), ..head }), ..self },
            None => Self { embed_tokens: Embedding { weight: cast(self.embed_tokens.weight) }, ..self },
        }
    }

    /// The same decoder with every linear map of its layers changed by `f` of the layer, from 1, the map's name, and the map.
    pub(crate) fn with_projections(self, mut f: impl FnMut(usize, &'static str, Linear<B>) -> Linear<B>) -> Self {
        let layer = |(index, layer): (usize, DecoderLayer<B>)| {
            let mut f = |name, linear| f(index + 1, name, linear);
            let (attention, mlp) = (layer.self_attn, layer.mlp);
            DecoderLayer {
                self_attn: Attention {
                    q_proj: f("q_proj", attention.q_proj),
                    k_proj: f("k_proj", attention.k_proj),
                    v_proj: f("v_proj", attention.v_proj),
                    o_proj: f("o_proj", attention.o_proj),
                    ..attention
                },
                mlp: FeedForward {
                    gate_proj: f("gate_proj", mlp.gate_proj),
                    up_proj: f("up_proj", mlp.up_proj),
                    down_proj: f("down_proj", mlp.down_proj),
                    ..mlp
                },
                ..layer
            }
        };
        Self { layers: self.layers.into_iter().enumerate().map(layer).collect(), ..self }
    }
}

struct Reader {
    layers: usize,
    path: Vec<String>,
    tensors: Vec<NamedTensor>,
}

impl<B: Backend> ModuleVisitor<B> for Reader {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if is_beside_model(&self.path) {
            return;
        }
        let is_above = match &self.path[..] {
            [module, index, ..] if module == "layers" => index.parse::<usize>().is_ok_and(|index| index >= self.layers),
            _ => false,
        };
        if is_above {
            return;
        }
        self.tensors.push(NamedTensor { name: param_name(&self.path), id: param.id, data: param.val().into_data() });
    }
}
