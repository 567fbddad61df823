//! The hand-written gradients against automatic differentiation.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::BTreeMap;

use bupo::core::{Norm, PolicySite, ResidualDecoder, token_tensor};
use bupo::models::decoder::{Gradients, LayerGradient, RandomInit, named_tensors};
use bupo::models::{Decoder, ModelConfig, ModelFiles, TunedLens};
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
            vec![
                ("full", Norm::None),
                ("layer:2", Norm::None),
                ("layer:2", Norm::Tuned),
                ("attn:2", Norm::Final),
                ("ffn:1", Norm::None),
            ],
        ),
        ("qwen2-untied-sharded-bf16", vec![("full", Norm::None), ("layer:1", Norm::Final)]),
        ("llama3-scaled", vec![("full", Norm::None), ("attn:1", Norm::None)]),
    ] {
        let json = std::fs::read_to_string(fixture(name).join("config.json")).unwrap();
        let config = ModelConfig::from_json(&json).unwrap();
        let (mut decoder, mut lifted) = (random::<Flex>(&config), random::<A>(&config));
        if name == "qwen3-tied" {
            (decoder, lifted) =
                (decoder.with_tuned_lens(&tuned_lens(&config)), lifted.with_tuned_lens(&tuned_lens(&config)));
        }
        let lifted = lifted.map(&mut RequireGrad);
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

/// A loss of the full policy's states and of those of layers, one for each norm.
#[test]
fn gradients_of_several_sites_match_automatic_differentiation() {
    let json = std::fs::read_to_string(fixture("qwen3-tied").join("config.json")).unwrap();
    let config = ModelConfig::from_json(&json).unwrap();
    let lens = tuned_lens(&config);
    let decoder = random::<Flex>(&config).with_tuned_lens(&lens);
    let lifted = random::<A>(&config).with_tuned_lens(&lens).map(&mut RequireGrad);
    let tokens: Vec<u32> = (0..BATCH * SEQ).map(|i| (i * 7919 % config.vocab_size) as u32).collect();
    let sites = [
        (PolicySite::Full, Norm::None),
        (PolicySite::Layer(1), Norm::Final),
        (PolicySite::Layer(2), Norm::None),
        (PolicySite::Layer(3), Norm::Tuned),
    ];
    let d = |site: usize| -> TensorData {
        let value = |i: usize| (i as f32 * (0.7 + site as f32)).sin() * 0.1;
        TensorData::new((0..BATCH * SEQ * config.hidden_size).map(value).collect(), [BATCH * SEQ, config.hidden_size])
    };
    let losses = sites.iter().enumerate().map(|(number, (site, norm))| {
        let mut context = lifted.prefill_context(SEQ);
        let state = lifted.site_state(ids(&tokens), *site, *norm, &mut context).unwrap();
        (state.flatten::<2>(0, 1) * Tensor::from_data(d(number), &Default::default())).sum()
    });
    let loss = losses.reduce(|sum, loss| sum + loss).unwrap();
    let names: BTreeMap<u64, String> =
        named_tensors(&lifted).into_iter().map(|tensor| (tensor.id.val(), tensor.name)).collect();
    let mut expected = Reader { gradients: loss.backward(), names, found: BTreeMap::new() };
    lifted.visit(&mut expected);
    for recompute in [false, true] {
        let saved = decoder
            .forward_train(ids(&tokens), decoder.prefill_context(SEQ), PolicySite::Full, Norm::None, recompute)
            .unwrap();
        let of_layers = sites[1..].iter().enumerate().map(|(number, (site, norm))| {
            let layer = site.depth(config.num_hidden_layers).unwrap();
            let mut context = decoder.prefill_context(SEQ);
            let states = decoder.site_state(ids(&tokens), *site, *norm, &mut context).unwrap();
            let ours = decoder.layer_states(&saved, layer, *norm).unwrap();
            assert_eq!(states.flatten::<2>(0, 1).into_data(), ours.into_data(), "the same forward pass");
            LayerGradient { layer, norm: *norm, d_states: Tensor::from_data(d(number + 1), &Default::default()) }
        });
        let of_layers = of_layers.collect();
        let mut gradients = Gradients::new();
        decoder.backward_of_layers(saved, Tensor::from_data(d(0), &Default::default()), of_layers, &mut gradients);
        for tensor in named_tensors(&decoder) {
            let ours: Option<Vec<f32>> =
                gradients.take(tensor.id).map(|gradient| gradient.into_data().to_vec().unwrap());
            assert_eq!(ours.is_some(), expected.found.contains_key(&tensor.name), "{}", tensor.name);
            let (Some(ours), Some(values)) = (ours, expected.found.get(&tensor.name)) else { continue };
            let size = values.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
            for (a, b) in ours.iter().zip(values) {
                assert!((a - b).abs() <= 1e-4 * size.max(1e-3), "{}: {a} and {b} of {size}", tensor.name);
            }
        }
    }
}

fn tuned_lens(config: &ModelConfig) -> TunedLens {
    let files = ModelFiles::folder(&fixture("qwen3-tied")).unwrap();
    TunedLens::read(Some(&fixture("tuned_lens.safetensors")), &files, config).unwrap()
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
    let saved = decoder.forward_train(ids(tokens), decoder.prefill_context(SEQ), site, norm, recompute).unwrap();
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
        // The maps of a tuned lens have no names.
        if let (Some(gradient), Some(name)) = (param.val().grad(&self.gradients), self.names.get(&param.id.val())) {
            self.found.insert(name.clone(), gradient.into_data().to_vec().unwrap());
        }
    }
}
