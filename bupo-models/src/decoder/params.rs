//! A decoder's parameters: by their Hugging Face names, and lifted into automatic differentiation.

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use super::Decoder;

/// A parameter read back to the host.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// As in a Hugging Face checkpoint: `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// The id it has in the module and its gradients.
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

/// The checkpoint's name of the parameter at a module path such as `["layers", "0", "mlp", "up_proj", "weight"]`.
fn param_name(path: &[String]) -> String {
    let path = path.join(".");
    if path.starts_with("lm_head") { path } else { format!("model.{path}") }
}

/// The decoder under automatic differentiation, every parameter asking for its gradient. No weight is copied.
pub fn differentiable<B: AutodiffBackend>(decoder: &Decoder<B::InnerBackend>) -> Decoder<B> {
    Decoder::from_inner(decoder.clone()).map(&mut RequireGrad)
}

/// The decoder under automatic differentiation with nothing tracked.
///
/// Backends fuse operations that automatic differentiation takes apart, with other rounding: log-probs that are to be
/// equal bit for bit to those of a [`differentiable`] decoder are computed with this one.
pub fn untracked<B: AutodiffBackend>(decoder: &Decoder<B::InnerBackend>) -> Decoder<B> {
    Decoder::from_inner(decoder.clone()).no_grad()
}

struct RequireGrad;

impl<B: Backend> ModuleMapper<B> for RequireGrad {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.set_require_grad(true)
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
