//! Which parameters of a decoder are trained. Frozen ones get no gradient, and the backward pass ends below the lowest trained layer.

use std::collections::BTreeSet;
use std::sync::Arc;

use bupo_core::ResidualDecoder;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, backend::Backend};

use super::{Decoder, Gradients};

/// The ids of the trained parameters; all are if there is no set.
#[derive(Debug, Clone, Default)]
pub(super) struct Trained(Option<Arc<BTreeSet<u64>>>);

impl Trained {
    pub(super) fn has(&self, id: ParamId) -> bool {
        self.0.as_ref().is_none_or(|ids| ids.contains(&id.val()))
    }
}

impl<B: Backend> Decoder<B> {
    /// The same decoder with all parameters but those of these ids frozen.
    pub fn train_only(self, ids: BTreeSet<u64>) -> Self {
        Self { trained: Trained(Some(Arc::new(ids))), ..self }
    }

    /// No gradients yet, of the parameters that are trained.
    pub fn gradients(&self) -> Gradients<B> {
        Gradients::of(self.trained.clone())
    }

    /// The first layer, from 1, whose activations the backward pass needs: 1 if the embedding is trained, and the number of layers
    /// plus 1 if nothing in the layers is.
    pub(super) fn lowest_trained(&self) -> usize {
        if self.trained.0.is_none() || self.trained.has(self.embed_tokens.weight.id) {
            return 1;
        }
        let is_trained = |layer: &super::DecoderLayer<B>| {
            let mut visitor = AnyTrained { trained: &self.trained, found: false };
            layer.visit(&mut visitor);
            visitor.found
        };
        self.layers.iter().position(is_trained).unwrap_or(self.num_layers()) + 1
    }
}

struct AnyTrained<'a> {
    trained: &'a Trained,
    found: bool,
}

impl<B: Backend> ModuleVisitor<B> for AnyTrained<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.found |= self.trained.has(param.id);
    }
}
