//! A decoder's parameters by their Hugging Face names.

use bupo_core::ResidualDecoder;
use bupo_core::kernels::pretransposed;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::Decoder;

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

/// All parameters of a decoder, in the checkpoint's order.
pub fn named_tensors<B: Backend>(decoder: &Decoder<B>) -> Vec<NamedTensor> {
    let mut reader = Reader { path: Vec::new(), tensors: Vec::new() };
    decoder.visit(&mut reader);
    reader.tensors
}

/// The checkpoint's name of the parameter with a module path such as `["layers", "0", "mlp", "up_proj", "weight"]`.
fn param_name(path: &[String]) -> String {
    let path = path.join(".");
    if path.starts_with("lm_head") { path } else { format!("model.{path}") }
}

impl<B: Backend> Decoder<B> {
    /// The same decoder with its layers' weights cast to the compute dtype, for inference only.
    pub fn cast_weights(self) -> Self {
        let dtype = self.compute_dtype().dtype();
        self.with_projections(|weight| weight.cast(dtype))
    }

    /// The same decoder with weights cast as by [`Self::cast_weights`] and stored as [`pretransposed`], and its
    /// unembedding stored so. On the CPU backend this is a copy of the weights.
    pub(crate) fn pretransposed(&self) -> (Self, Tensor<B, 2>) {
        (self.clone().cast_weights().with_projections(pretransposed), pretransposed(self.unembedding()))
    }

    fn with_projections(mut self, f: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>) -> Self {
        for layer in &mut self.layers {
            let (attention, mlp) = (&mut layer.self_attn, &mut layer.mlp);
            for projection in
                [&mut attention.q_proj, &mut attention.k_proj, &mut attention.v_proj, &mut attention.o_proj]
                    .into_iter()
                    .chain([&mut mlp.gate_proj, &mut mlp.up_proj, &mut mlp.down_proj])
            {
                projection.weight = projection.weight.clone().map(&f);
            }
        }
        self
    }
}

struct Reader {
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
        self.tensors.push(NamedTensor { name: param_name(&self.path), id: param.id, data: param.val().into_data() });
    }
}
