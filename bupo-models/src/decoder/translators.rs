//! The affine maps of a tuned lens in a decoder, and what the unembedding multiplies for each norm.

use bupo_core::{CoreError, InternalPolicy, Norm, ResidualDecoder, token_tensor};
use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Tensor, backend::Backend};

use super::{Decoder, Gradients, Linear, Products};
use crate::sequence::SequenceBatch;
use crate::{ComputeDtype, TunedLens};

/// The first id of the maps' parameters, above those of the model and of an adapter.
const FIRST_ID: u64 = 1 << 40;

/// The maps of the states after 0 to L - 1 layers: a state h becomes h + h W^T + b.
#[derive(Module, Debug)]
pub struct Translators<B: Backend> {
    maps: Vec<Linear<B>>,
}

impl<B: Backend> Decoder<B> {
    /// The same decoder with a tuned lens, in place of the one it has.
    pub fn with_tuned_lens(self, lens: &TunedLens) -> Self {
        let device = self.device();
        let map = |(index, (weight, bias)): (usize, &(_, _))| {
            let id = |part| ParamId::from(FIRST_ID + 2 * index as u64 + part);
            Linear {
                weight: Param::initialized(id(0), Tensor::from_data(Clone::clone(weight), &device)),
                bias: Some(Param::initialized(id(1), Tensor::from_data(Clone::clone(bias), &device))),
                lora: None,
                compute_dtype: ComputeDtype::F32,
                products: Products::Rowwise,
            }
        };
        Self { translators: Some(Translators { maps: lens.maps.iter().enumerate().map(map).collect() }), ..self }
    }

    /// The decoder's tuned lens, read back to the host.
    pub fn tuned_lens(&self) -> Option<TunedLens> {
        let read = |map: &Linear<B>| {
            let bias = map.bias.as_ref()?.val().into_data();
            Some((map.weight.val().into_data(), bias))
        };
        let maps = self.translators.as_ref()?.maps.iter().map(read).collect::<Option<_>>()?;
        Some(TunedLens { maps })
    }

    /// The same decoder with all parameters but those of its tuned lens frozen.
    pub fn train_tuned_lens(self) -> Self {
        let maps = self.translators.iter().flat_map(|translators| &translators.maps);
        let ids = maps.flat_map(|map| map.bias.iter().map(|bias| bias.id).chain([map.weight.id]));
        let ids = ids.map(|id| id.val()).collect();
        self.train_only(ids)
    }

    /// The losses that fit a tuned lens (arXiv 2303.08112, section 2): the means over some of the response tokens of KL(full || tuned
    /// lens), in nats, of the states after 0 to L - 1 layers. Adds the gradients of each to those of its map. `tokens`: the places of the
    /// tokens among all response tokens of the batch.
    ///
    /// # Errors
    /// If the decoder has no tuned lens.
    pub fn tuned_lens_losses(
        &self,
        batch: &SequenceBatch,
        tokens: &[u32],
        gradients: &mut Gradients<B>,
    ) -> Result<Vec<f64>, CoreError> {
        let translators = self.translators.as_ref().ok_or(CoreError::NoTunedLens)?;
        let places = token_tensor(tokens, &self.device());
        let at_tokens =
            |state: Tensor<B, 3>| batch.gather_states(state.flatten(0, 1)).select(0, places.clone()).cast(DType::F32);
        let mut context = self.batch_context(batch);
        let mut stream = self.stream(batch.tokens(&self.device()), &mut context);
        let states: Vec<Tensor<B, 2>> = stream.by_ref().map(|step| at_tokens(step.resid_pre)).collect();
        let unembedding = self.unembedding();
        let policy = |states: Tensor<B, 2>| InternalPolicy::new(self.norm.forward(states), unembedding.clone());
        let full = policy(at_tokens(stream.state()));
        let translated: Vec<Tensor<B, 2>> =
            translators.maps.iter().zip(&states).map(|(map, state)| translated(map, state.clone())).collect();
        let lenses: Vec<InternalPolicy<B>> = translated.iter().cloned().map(policy).collect();
        let mut losses = Vec::with_capacity(lenses.len());
        let inputs = translators.maps.iter().zip(states).zip(translated);
        for (((map, state), translated), (loss, d_normed)) in inputs.zip(InternalPolicy::reverse_kls(&lenses, &full)) {
            let d_translated = self.norm.backward(translated, d_normed, gradients);
            map.accumulate_gradients(state, d_translated, gradients);
            losses.push(loss);
        }
        Ok(losses)
    }

    /// What the unembedding multiplies, of states after `layer` layers `[tokens, hidden]`; in f32 if there is a norm.
    pub(super) fn normed_rows(&self, layer: usize, norm: Norm, state: Tensor<B, 2>) -> Result<Tensor<B, 2>, CoreError> {
        Ok(match norm {
            Norm::None => state,
            Norm::Final => self.norm.forward(state.cast(DType::F32)),
            Norm::Tuned => self.norm.forward(self.translated_rows(layer, state)?),
        })
    }

    /// The gradient with respect to `state`, from that with respect to [`Self::normed_rows`]; adds the gradient of the norm. The tuned
    /// lens is a constant.
    pub(super) fn normed_rows_backward(
        &self,
        layer: usize,
        norm: Norm,
        state: Tensor<B, 2>,
        d_normed: Tensor<B, 2>,
        gradients: &mut Gradients<B>,
    ) -> Tensor<B, 2> {
        match (norm, self.translator(layer)) {
            (Norm::None, _) => d_normed,
            (Norm::Tuned, Some(map)) => {
                let d = self.norm.backward(translated(map, state), d_normed, gradients);
                d.clone() + map.input_gradient(d)
            }
            (Norm::Final | Norm::Tuned, _) => self.norm.backward(state, d_normed, gradients),
        }
    }

    pub(super) fn translated_rows(&self, layer: usize, state: Tensor<B, 2>) -> Result<Tensor<B, 2>, CoreError> {
        if self.translators.is_none() {
            return Err(CoreError::NoTunedLens);
        }
        Ok(match self.translator(layer) {
            Some(map) => translated(map, state),
            None => state.cast(DType::F32),
        })
    }

    /// The map of the states after `layer` layers; `None` after the last.
    fn translator(&self, layer: usize) -> Option<&Linear<B>> {
        self.translators.as_ref()?.maps.get(layer)
    }
}

fn translated<B: Backend>(map: &Linear<B>, state: Tensor<B, 2>) -> Tensor<B, 2> {
    let state = state.cast(DType::F32);
    state.clone() + map.forward(state)
}
