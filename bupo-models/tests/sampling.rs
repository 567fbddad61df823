#![allow(clippy::unwrap_used)]

//! Restricted sampling against transformers (`tests/reference/make_sampling.py`), on two backends, and stop strings.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use bupo_core::{InternalPolicy, Norm, PolicySite, SamplingParams};
use bupo_models::decoder::RandomInit;
use bupo_models::tokenizer::{TextTokenizer, byte_tokenizer_json};
use bupo_models::{
    Decoder, GenerateOptions, ModelConfig, ModelFiles, Response, StopStrings, generate, generate_until, generate_with,
};
use burn::backend::{Flex, NdArray};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::Deserialize;

/// The byte tokenizer's vocabulary.
const VOCAB: usize = 257;

#[derive(Deserialize)]
struct Case {
    params: Params,
    logits: Vec<f32>,
    history: Vec<u32>,
    probs: Vec<f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Params {
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
}

impl Params {
    fn sampling(self) -> SamplingParams {
        let none = SamplingParams::default();
        SamplingParams {
            top_k: self.top_k.unwrap_or(none.top_k),
            top_p: self.top_p.unwrap_or(none.top_p),
            min_p: self.min_p.unwrap_or(none.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(none.repetition_penalty),
        }
    }
}

/// Sampling at evenly spaced uniforms gives each token its probability, to one draw.
#[test]
fn distributions_match_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/sampling.json");
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 10);
    let draws = 20_000;
    let uniforms = [(0..draws).map(|draw| (f64::from(draw) + 0.5) / f64::from(draws)).collect::<Vec<f64>>()];
    for Case { params, logits, history, probs } in cases {
        let (device, vocab) = (Default::default(), logits.len());
        let states = Tensor::<Flex, 2>::from_data(TensorData::new(logits, [1, vocab]), &device);
        let policy = InternalPolicy::new(states, Tensor::eye(vocab, &device));
        let policy = policy.with_temperature(params.temperature.unwrap_or(1.0));
        let sampled = policy.sample_restricted(&uniforms, &params.sampling(), &[&history]).unwrap().remove(0);
        let mut shares = vec![0.0; vocab];
        sampled.iter().for_each(|sampled| shares[sampled.token as usize] += 1.0 / f64::from(draws));
        for (token, (share, prob)) in shares.iter().zip(&probs).enumerate() {
            assert!((share - prob).abs() < 1.1 / f64::from(draws), "{params:?} token {token}: {share} for {prob}");
            assert!(*prob > 0.0 || *share == 0.0, "{params:?}: token {token} is excluded");
        }
    }
}

fn decoder<B: Backend>() -> Decoder<B> {
    let json = format!(
        r#"{{"model_type": "llama", "vocab_size": {VOCAB}, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4}}"#
    );
    let config = ModelConfig::from_json(&json).unwrap();
    Decoder::build(&config, &mut RandomInit::new(3, Default::default())).unwrap()
}

fn options(temperature: f64, sampling: SamplingParams) -> GenerateOptions {
    GenerateOptions {
        site: PolicySite::Full,
        norm: Norm::None,
        temperature,
        sampling,
        max_new_tokens: 30,
        eos_token_ids: vec![256],
        seed: 11,
        first_row: 0,
        batch: 3,
    }
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 2, 3], vec![1, 2, 3], vec![9], vec![40, 41, 42, 43, 44], vec![7, 7]]
}

fn tokens(responses: &[Response]) -> Vec<Vec<u32>> {
    responses.iter().map(|response| response.tokens.clone()).collect()
}

#[test]
fn the_same_seeds_give_the_same_tokens_on_every_backend_and_in_every_batch() {
    let none = SamplingParams::default();
    let all = SamplingParams { top_k: 50, top_p: 0.9, min_p: 0.01, repetition_penalty: 1.2 };
    let mut seen = Vec::new();
    for params in [none, SamplingParams { top_k: 5, ..none }, SamplingParams { repetition_penalty: 3.0, ..none }, all] {
        for temperature in [0.0, 0.5] {
            let options = options(temperature, params);
            let on_host = generate(&decoder::<Flex>(), &prompts(), &options).unwrap();
            let composed = generate(&decoder::<NdArray>(), &prompts(), &options).unwrap();
            assert_eq!(tokens(&on_host), tokens(&composed), "{params:?}");
            let alone = generate(&decoder::<Flex>(), &prompts(), &GenerateOptions { batch: 1, ..options }).unwrap();
            assert_eq!(tokens(&on_host), tokens(&alone), "{params:?}");
            seen.push(tokens(&on_host));
        }
    }
    // Restrictions change sampled tokens, and only the repetition penalty changes greedy ones.
    assert!(seen[3] != seen[1] && seen[5] != seen[1] && seen[7] != seen[1]);
    assert!(seen[2] == seen[0] && seen[4] != seen[0]);
}

/// With a penalty that excludes every token so far, greedy decoding never repeats one.
#[test]
fn the_repetition_penalty_covers_prompt_and_response() {
    let params = SamplingParams { repetition_penalty: 1e6, ..Default::default() };
    for (prompt, response) in
        prompts().iter().zip(generate(&decoder::<Flex>(), &prompts(), &options(0.0, params)).unwrap())
    {
        let mut all = [&response.tokens[..], &prompt[..]].concat();
        all.sort_unstable();
        all.dedup();
        let mut distinct = prompt.clone();
        distinct.dedup();
        assert_eq!(all.len(), response.tokens.len() + distinct.len(), "{prompt:?} {:?}", response.tokens);
    }
}

#[test]
fn log_probs_are_those_of_the_unrestricted_policy() {
    let none = SamplingParams::default();
    let restricted = options(0.7, SamplingParams { top_k: 1, ..none });
    let greedy = generate(&decoder::<Flex>(), &prompts(), &options(0.0, none)).unwrap();
    let sampled = generate(&decoder::<Flex>(), &prompts(), &restricted).unwrap();
    assert_eq!(tokens(&greedy), tokens(&sampled));
    // The most probable of 257 similar tokens, which would have log-prob 0 if renormalised.
    assert!(sampled.iter().flat_map(|response| &response.log_probs).all(|log_prob| *log_prob < -1.0));
}

#[test]
fn sampling_parameters_out_of_range_are_refused() {
    let params = SamplingParams { top_p: 0.0, ..Default::default() };
    let error = generate(&decoder::<Flex>(), &prompts(), &options(1.0, params)).unwrap_err();
    assert!(error.to_string().contains("top_p is 0"), "{error}");
}

#[test]
fn a_stop_string_ends_its_response_only() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), byte_tokenizer_json("<end>").unwrap().0).unwrap();
    let tokenizer = TextTokenizer::load(&ModelFiles::folder(folder.path()).unwrap()).unwrap();
    let decoder = decoder::<Flex>();
    let options = GenerateOptions { eos_token_ids: Vec::new(), ..options(1.0, SamplingParams::default()) };
    let whole = generate(&decoder, &prompts(), &options).unwrap();
    // The first response with two ASCII characters in a row that no other response has earlier.
    let ascii = |pair: &[u32]| pair.iter().all(|id| tokenizer.token_text(*id).is_ok_and(|text| text.is_ascii()));
    let (place, pair) = whole[0].tokens.windows(2).enumerate().find(|(_, pair)| ascii(pair)).unwrap();
    let strings = [tokenizer.decode(pair).unwrap()];
    let stop = StopStrings::new(&tokenizer, &strings).unwrap();
    let stopped = generate_until(&decoder, &prompts(), &options, Some(stop)).unwrap();
    assert_eq!(stopped[0].tokens, whole[0].tokens[..place + 2]);
    assert!(stopped[0].finished && stopped[0].log_probs.len() == place + 2);
    for (stopped, whole) in stopped.iter().zip(&whole) {
        let contains = tokenizer.decode(&whole.tokens).unwrap().contains(&strings[0]);
        assert_eq!(stopped.finished, contains);
        assert!(contains || stopped.tokens == whole.tokens);
        assert!(whole.tokens.starts_with(&stopped.tokens));
    }
}

#[test]
fn generation_reports_every_token_and_can_be_stopped() {
    let decoder = decoder::<Flex>();
    let options = GenerateOptions { batch: 2, ..options(1.0, SamplingParams::default()) };
    let whole = generate(&decoder, &prompts(), &options).unwrap();
    let (mut reports, mut done) = (0, vec![None; whole.len()]);
    let reported = generate_with(&decoder, &prompts(), &options, None, &mut |progress| {
        reports += 1;
        assert!(done[progress.prompt].is_none(), "nothing is reported after the last token");
        if progress.done {
            done[progress.prompt] = Some(progress.response.clone());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(reported.unwrap(), whole);
    assert_eq!(done.into_iter().flatten().collect::<Vec<_>>(), whole);
    assert_eq!(reports, whole.iter().map(|response| response.tokens.len()).sum::<usize>());
    let mut left = 5;
    let stopped = generate_with(&decoder, &prompts(), &options, None, &mut |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = stopped.unwrap();
    assert_eq!(stopped.iter().map(|response| response.tokens.len()).sum::<usize>(), 5);
    assert!(stopped.iter().zip(&whole).all(|(stopped, whole)| whole.tokens.starts_with(&stopped.tokens)));
}
