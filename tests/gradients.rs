//! The hand-written gradients against automatic differentiation.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{Norm, PolicySite, ResidualDecoder, token_tensor};
use bupo::models::decoder::{Gradients, RandomInit, named_tensors};
use bupo::models::{Decoder, ModelConfig};
use burn::backend::{Autodiff, Flex, NdArray};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use common::fixture;

/// NdArray, whose kernels are composed of tensor operations, with automatic differentiation.
type A = Autodiff<NdArray>;

/// More than one tile of queries.
const SEQ: usize = 150;
const BATCH: usize = 2;

#[test]
fn gradients_match_automatic_differentiation() {
    for (name, sites) in [
        (
            "qwen3-tied",
            vec![("full", Norm::None), ("layer:2", Norm::None), ("attn:2", Norm::Final), ("ffn:1", Norm::None)],
        ),
        ("qwen2-untied-sharded-bf16", vec![("full", Norm::None), ("layer:1", Norm::Final)]),
        ("llama3-scaled", vec![("full", Norm::None), ("attn:1", Norm::None)]),
    ] {
        let json = std::fs::read_to_string(fixture(name).join("config.json")).unwrap();
        let config = ModelConfig::from_json(&json).unwrap();
        let decoder = random::<Flex>(&config);
        let lifted = random::<A>(&config).map(&mut RequireGrad);
        let tokens: Vec<u32> = (0..BATCH * SEQ).map(|i| (i * 7919 % config.vocab_size) as u32).collect();
        let d: Vec<f32> = (0..BATCH * SEQ * config.hidden_size).map(|i| ((i as f32 * 0.7).sin()) * 0.1).collect();
        let d = TensorData::new(d, [BATCH * SEQ, config.hidden_size]);
        for (site, norm) in sites {
            let site: PolicySite = site.parse().unwrap();
            let ours = by_hand(&decoder, &tokens, site, norm, d.clone(), false);
            let expected = automatic(&lifted, &tokens, site, norm, d.clone());
            assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name} {site}");
            for (key, values) in &expected {
                let size = values.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
                for (a, b) in ours[key].iter().zip(values) {
                    assert!((a - b).abs() <= 1e-4 * size.max(1e-3), "{name} {site} {key}: {a} and {b} of {size}");
                }
            }
            assert_eq!(ours, by_hand(&decoder, &tokens, site, norm, d.clone(), true), "{name} {site} recomputed");
        }
    }
}

fn random<B: Backend>(config: &ModelConfig) -> Decoder<B> {
    Decoder::build(config, &mut RandomInit::new(7, Default::default())).unwrap()
}

fn ids<B: Backend>(tokens: &[u32]) -> Tensor<B, 2, burn::tensor::Int> {
    token_tensor(tokens, &Default::default()).reshape([BATCH, SEQ])
}

fn by_hand(
    decoder: &Decoder<Flex>,
    tokens: &[u32],
    site: PolicySite,
    norm: Norm,
    d: TensorData,
    recompute: bool,
) -> BTreeMap<String, Vec<f32>> {
    let saved = decoder.forward_train(ids(tokens), site, norm, recompute).unwrap();
    let mut context = decoder.prefill_context(SEQ);
    let state = decoder.site_state(ids(tokens), site, norm, &mut context).unwrap();
    assert_eq!(state.flatten::<2>(0, 1).into_data(), saved.states.clone().into_data(), "the same forward pass");
    let mut gradients = Gradients::new();
    decoder.backward(saved, Tensor::from_data(d, &Default::default()), &mut gradients);
    let named = named_tensors(decoder).into_iter();
    named.filter_map(|tensor| Some((tensor.name, gradients.take(tensor.id)?.into_data().to_vec().unwrap()))).collect()
}

fn automatic(
    decoder: &Decoder<A>,
    tokens: &[u32],
    site: PolicySite,
    norm: Norm,
    d: TensorData,
) -> BTreeMap<String, Vec<f32>> {
    let mut context = decoder.prefill_context(SEQ);
    let state = decoder.site_state(ids(tokens), site, norm, &mut context).unwrap();
    let loss = (state.flatten::<2>(0, 1) * Tensor::from_data(d, &Default::default())).sum();
    let names: BTreeMap<u64, String> =
        named_tensors(decoder).into_iter().map(|tensor| (tensor.id.val(), tensor.name)).collect();
    let mut reader = Reader { gradients: loss.backward(), names, found: BTreeMap::new() };
    decoder.visit(&mut reader);
    reader.found
}

struct RequireGrad;

impl<B: Backend> ModuleMapper<B> for RequireGrad {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.set_require_grad(true)
    }
}

struct Reader {
    gradients: <A as burn::tensor::backend::AutodiffBackend>::Gradients,
    names: BTreeMap<u64, String>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor<A> for Reader {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        if let Some(gradient) = param.val().grad(&self.gradients) {
            self.found.insert(self.names[&param.id.val()].clone(), gradient.into_data().to_vec().unwrap());
        }
    }
}
