//! Adapters against PEFT, and frozen parameters.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bupo::core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, TokenDerivatives};
use bupo::models::adapter::{read_adapter, write_adapter};
use bupo::models::decoder::{Gradients, named_tensors, parameter_ids};
use bupo::models::{
    Adapter, Decoder, GenerateOptions, LoadedModel, ModelFiles, Sequence, SequenceBatch, generate, load_frozen_model,
    trace,
};
use common::{B, fixture, json, load, max_difference, tensors};
use safetensors::SafeTensors;

const ADAPTERS: [(&str, &str); 3] =
    [("qwen3-all", "qwen3-tied"), ("qwen2-some", "qwen2-untied-sharded-bf16"), ("llama-layers", "llama3-scaled")];

fn folder(name: &str) -> PathBuf {
    fixture("lora").join(name)
}

fn rows(base: &str) -> Vec<Vec<u32>> {
    json(&fixture(base).join("tokens.json"))
}

fn with_adapter(name: &str, base: &str) -> (Decoder<B>, Adapter) {
    let LoadedModel { decoder, config, .. } = load(base);
    let adapter = read_adapter(&folder(name), &config).unwrap();
    (decoder.with_adapter(&adapter), adapter)
}

fn logits(decoder: &Decoder<B>, base: &str) -> Vec<f32> {
    trace(decoder, &rows(base)).unwrap()["logits"].iter::<f32>().collect()
}

fn expected(name: &str) -> BTreeMap<String, Vec<f32>> {
    tensors(&folder(name).join("expected.safetensors")).into_iter().map(|(name, _, values)| (name, values)).collect()
}

/// The gradients of the mean log-prob of the next tokens.
fn gradients(decoder: &Decoder<B>, base: &str, site: PolicySite, recompute: bool) -> Gradients<B> {
    let sequences: Vec<Sequence> =
        rows(base).iter().map(|ids| Sequence { prompt: ids[..1].to_vec(), response: ids[1..].to_vec() }).collect();
    let batch = SequenceBatch::padded(&sequences);
    let saved = decoder
        .forward_train(batch.tokens(&decoder.device()), decoder.batch_context(&batch), site, Norm::None, recompute)
        .unwrap();
    let policy = InternalPolicy::new(batch.gather_states(saved.states.clone()), decoder.unembedding());
    let count = batch.targets.len();
    let derivatives = TokenDerivatives { log_probs: vec![1.0 / count as f32; count], entropy: None };
    let mut gradients = decoder.gradients();
    let states = policy.forward(&batch.targets).backward(&derivatives);
    let alone = policy.forward(&batch.targets).backward_states(&derivatives);
    assert_eq!(states.states.clone().into_data(), alone.into_data());
    gradients.add(decoder.unembedding_id(), states.unembedding);
    decoder.backward(saved, batch.scatter_grad(states.states), &mut gradients);
    gradients
}

/// The ids of the adapter's parameters by their names in PEFT's files, which are in the order of ids.
fn adapter_ids(name: &str, decoder: &Decoder<B>) -> BTreeMap<String, u64> {
    let bytes = std::fs::read(folder(name).join("adapter_model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let order = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let mut names: Vec<String> = file.names().into_iter().map(ToString::to_string).collect();
    names.sort_by_key(|name| {
        let parts: Vec<&str> = name.split('.').collect();
        (parts[4].parse::<usize>().unwrap(), order.iter().position(|module| *module == parts[6]), parts[7].to_string())
    });
    let ids: Vec<u64> = decoder.adapter_ids().into_iter().collect();
    assert_eq!(names.len(), ids.len());
    names.into_iter().zip(ids).collect()
}

#[test]
fn logits_with_an_adapter_of_peft_are_those_of_peft() {
    for (name, base) in ADAPTERS {
        let (decoder, _) = with_adapter(name, base);
        let expected = expected(name);
        let size = expected["logits"].iter().fold(1.0_f32, |size, value| size.max(value.abs()));
        let plain = logits(&load(base).decoder, base);
        let [ours, merged] = [logits(&decoder, base), logits(&decoder.clone().merged(), base)];
        assert!(max_difference(&ours, &expected["logits"]) < 1e-4 * size, "{name}");
        assert!(max_difference(&merged, &expected["merged"]) < 1e-4 * size, "{name} merged");
        assert!(max_difference(&merged, &ours) < 1e-4 * size, "{name} merged and not");
        assert!(max_difference(&ours, &plain) > 0.01 * size, "{name}: the adapter changes nothing");
        assert_eq!(logits(&decoder.without_adapter(), base), plain, "{name} without its adapter");
    }
}

#[test]
fn gradients_of_an_adapter_are_those_of_peft_and_frozen_parameters_have_none() {
    for (name, base) in ADAPTERS {
        let (decoder, _) = with_adapter(name, base);
        let (ids, expected) = (adapter_ids(name, &decoder), expected(name));
        let frozen = decoder.clone().train_only(decoder.adapter_ids());
        for (key, site) in [("full", PolicySite::Full), ("layer.2", PolicySite::Layer(2))] {
            for recompute in [false, true] {
                let mut all = gradients(&decoder, base, site, recompute);
                let mut ours = gradients(&frozen, base, site, recompute);
                let names = expected.keys().filter_map(|name| name.strip_prefix(&format!("{key}.")));
                let names: BTreeSet<&str> = names.collect();
                assert_eq!(ours.lengths().len(), names.len(), "{name} {key}: which have a gradient");
                for tensor in names {
                    let values = &expected[&format!("{key}.{tensor}")];
                    let id = ids[tensor].into();
                    let of: Vec<f32> = ours.take(id).unwrap().into_data().to_vec().unwrap();
                    let size = values.iter().fold(1e-3_f32, |size, value| size.max(value.abs()));
                    let difference = max_difference(&of, values);
                    assert!(difference < 2e-4 * size, "{name} {key} {tensor}: {difference} of {size}");
                    let beside_all: Vec<f32> = all.take(id).unwrap().into_data().to_vec().unwrap();
                    assert_eq!(of, beside_all, "{name} {key} {tensor}: frozen weights change no gradient");
                }
            }
        }
    }
}

#[test]
fn gradients_end_below_the_lowest_trained_layer() {
    let decoder = load("qwen3-tied").decoder;
    let named = named_tensors(&decoder);
    let trained = |name: &str| name.starts_with("model.layers.1.self_attn");
    let ids: BTreeSet<u64> = named.iter().filter(|t| trained(&t.name)).map(|t| t.id.val()).collect();
    let some = decoder.clone().train_only(ids.clone());
    for recompute in [false, true] {
        let mut all = gradients(&decoder, "qwen3-tied", PolicySite::Full, recompute);
        let mut ours = gradients(&some, "qwen3-tied", PolicySite::Full, recompute);
        assert_eq!(ours.lengths().keys().copied().collect::<BTreeSet<_>>(), ids);
        for id in &ids {
            let [a, b] = [&mut all, &mut ours].map(|gradients| gradients.take((*id).into()).unwrap().into_data());
            assert_eq!(a, b, "{id}");
        }
    }
}

#[test]
fn an_adapter_is_written_and_read_back_with_the_same_bits() {
    for (name, base) in ADAPTERS {
        let (decoder, adapter) = with_adapter(name, base);
        let written = tempfile::tempdir().unwrap();
        write_adapter(written.path(), &Adapter::of(&decoder, &adapter.config), Some(base)).unwrap();
        let again = read_adapter(written.path(), &load(base).config).unwrap();
        assert_eq!(again.config, adapter.config, "{name}");
        assert_eq!(again.matrices, adapter.matrices, "{name}");
        let of = |folder: &Path| {
            let file = tensors(&folder.join("adapter_model.safetensors"));
            file.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect::<BTreeMap<_, _>>()
        };
        assert!(of(written.path()) == of(&folder(name)), "{name}: other tensors than in PEFT's file");
        assert_eq!(named_tensors(&decoder).len(), named_tensors(&load(base).decoder).len(), "{name}");
    }
}

#[test]
fn a_frozen_model_keeps_the_dtype_of_its_checkpoint_and_computes_the_same() {
    let base = "qwen2-untied-sharded-bf16";
    let files = ModelFiles::folder(&fixture(base)).unwrap();
    let frozen = load_frozen_model::<B>(&files, &Default::default()).unwrap().decoder;
    let plain = load(base).decoder;
    let bytes = |decoder: &Decoder<B>| named_tensors(decoder).iter().map(|t| t.data.as_bytes().len()).sum::<usize>();
    assert!(bytes(&frozen) < bytes(&plain) * 6 / 10, "{} and {}", bytes(&frozen), bytes(&plain));
    let size = logits(&plain, base).iter().fold(1.0_f32, |size, value| size.max(value.abs()));
    assert!(max_difference(&logits(&frozen, base), &logits(&plain, base)) < 1e-5 * size);
    let site = PolicySite::Full;
    let adapter = read_adapter(&folder("qwen2-some"), &load(base).config).unwrap();
    let [frozen, plain] = [frozen, plain].map(|decoder| {
        let decoder = decoder.with_adapter(&adapter);
        let ids = decoder.adapter_ids();
        decoder.train_only(ids)
    });
    let (mut ours, mut expected) = (gradients(&frozen, base, site, false), gradients(&plain, base, site, false));
    for id in frozen.adapter_ids() {
        let [a, b] = [&mut ours, &mut expected].map(|g| g.take(id.into()).unwrap().into_data().to_vec().unwrap());
        let size = b.iter().fold(1e-4_f32, |size: f32, value: &f32| size.max(value.abs()));
        assert!(max_difference(&a, &b) < 1e-4 * size);
    }
}

#[test]
fn responses_sampled_with_an_adapter_have_the_log_probs_of_training() {
    let (decoder, _) = with_adapter("qwen3-all", "qwen3-tied");
    let prompts = vec![vec![5, 17, 80], vec![9, 3]];
    let options = GenerateOptions {
        site: PolicySite::Full,
        norm: Norm::None,
        temperature: 1.0,
        sampling: Default::default(),
        max_new_tokens: 8,
        eos_token_ids: Vec::new(),
        seed: 3,
        first_row: 0,
        batch: 2,
    };
    let responses = generate(&decoder, &prompts, &options).unwrap();
    let sequences: Vec<Sequence> = prompts
        .iter()
        .zip(&responses)
        .map(|(prompt, response)| Sequence { prompt: prompt.clone(), response: response.tokens.clone() })
        .collect();
    let spec = bupo::rl::PolicySpec { site: PolicySite::Full, norm: Norm::None, temperature: 1.0 };
    let stats = bupo::rl::response_stats(&decoder, &sequences, &spec, usize::MAX).unwrap();
    for (response, stats) in responses.iter().zip(stats) {
        assert!(max_difference(&response.log_probs, &stats.log_probs) < 1e-5);
    }
}

#[test]
fn what_an_adapter_folder_cannot_be_is_said() {
    let config = load("qwen3-tied").config;
    let copy = |edit: &dyn Fn(&Path)| {
        let written = tempfile::tempdir().unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            std::fs::copy(folder("qwen3-all").join(file), written.path().join(file)).unwrap();
        }
        edit(written.path());
        read_adapter(written.path(), &config).unwrap_err().to_string()
    };
    let replace = |from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let path = folder.join("adapter_config.json");
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{from}");
            std::fs::write(&path, text.replace(from, to)).unwrap();
        }
    };
    let error = copy(&replace("\"use_dora\": false", "\"use_dora\": true"));
    assert!(error.contains("adapter_config.json") && error.contains("use_dora"), "{error}");
    let error = copy(&replace("\"LORA\"", "\"IA3\""));
    assert!(error.contains("IA3"), "{error}");
    let error = copy(&|folder| std::fs::remove_file(folder.join("adapter_model.safetensors")).unwrap());
    assert!(error.contains("adapter_model.safetensors"), "{error}");
    let error = read_adapter(&folder("qwen3-all"), &load("llama3-scaled").config).unwrap_err().to_string();
    assert!(error.contains("has shape") || error.contains("layer"), "{error}");
}

#[test]
fn the_plan_counts_what_has_a_gradient() {
    for base in ["qwen3-tied", "qwen2-untied-sharded-bf16", "llama3-scaled"] {
        let LoadedModel { decoder, config: model, .. } = load(base);
        let frozen = ["train.parameters.embedding=false", "train.parameters.unembedding=false"];
        for pairs in [
            vec![],
            vec!["train.parameters.layers=2"],
            [&frozen[..], &["train.parameters.modules=['mlp']"]].concat(),
            [&frozen[..], &["train.parameters.modules=['attn', 'norm']", "train.parameters.layers=1-2"]].concat(),
            vec!["lora.rank=3", "lora.targets=['k_proj', 'up_proj']"],
            vec!["lora.rank=2", "lora.layers=2"],
        ] {
            for (site, policy) in [("full", PolicySite::Full), ("layer:2", PolicySite::Layer(2))] {
                let mut all: Vec<String> = pairs.iter().map(ToString::to_string).collect();
                all.extend([format!("phases.0.site={site}"), "phases.1.steps=0".into()]);
                let config = bupo::rl::TrainConfig::load(None, &all).unwrap();
                let plan = bupo::rl::RunPlan::new(&config, &model, true).unwrap();
                let decoder = if config.lora.is_on() {
                    let decoder = decoder.clone().with_adapter(&Adapter::new(&config.lora, &model, 1));
                    let ids = decoder.adapter_ids();
                    decoder.train_only(ids)
                } else {
                    let (parameters, layers) = (&config.train.parameters, model.num_hidden_layers);
                    let ids = parameter_ids(&decoder).into_iter().filter(|(name, _)| parameters.has(name, layers));
                    decoder.clone().train_only(ids.map(|(_, id)| id).collect())
                };
                let lengths = gradients(&decoder, base, policy, false).lengths();
                let counted: usize = lengths.values().sum();
                assert_eq!(plan.phases[0].trained, counted as u64, "{base} {pairs:?} {site}");
            }
        }
    }
}
