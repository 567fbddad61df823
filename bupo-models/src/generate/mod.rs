//! Batched generation from the full policy or any internal one, with a cache.

mod cache;

use bupo_core::{InternalPolicy, Norm, PolicySite, ResidualDecoder, Sampled, token_tensor};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::decoder::{MASKED, Pass};
use crate::{Decoder, ModelError};

pub use cache::KvCache;

/// How to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The policy sampled from; layers above it never run.
    pub site: PolicySite,
    /// The norm between its state and the unembedding.
    pub norm: Norm,
    /// Divides the logits; 0 takes the most probable token (and reports its log-prob at temperature 1).
    pub temperature: f64,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Ids that end a response; empty to run to the longest.
    pub eos_token_ids: Vec<u32>,
    /// Seeds the host's random numbers. Row `i` draws from its own stream, number `first_row + i`, whatever else is in
    /// the batch.
    pub seed: u64,
    /// The number of the first row, for rows that are a part of more.
    pub first_row: usize,
    /// How many rows are run at once, at least 1; it bounds the memory of the cache.
    pub batch: usize,
}

/// A generated response.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The generated ids, an end-of-sequence id included.
    pub tokens: Vec<u32>,
    /// Their log-probs under the policy that was sampled.
    pub log_probs: Vec<f32>,
    /// Whether an end-of-sequence id ended it.
    pub finished: bool,
}

/// Continues each prompt, `options.batch` at a time.
///
/// # Errors
/// If a prompt is empty or has an id outside the vocabulary, the site is outside the model, or the policy's logits
/// are not finite.
pub fn generate<B: Backend>(
    decoder: &Decoder<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
) -> Result<Vec<Response>, ModelError> {
    check_tokens(prompts, decoder.vocab_size())?;
    if options.max_new_tokens == 0 {
        return Ok(vec![Response::default(); prompts.len()]);
    }
    let mut responses = Vec::with_capacity(prompts.len());
    for part in prompts.chunks(options.batch.max(1)) {
        let first_row = options.first_row + responses.len();
        responses.extend(generate_batch(decoder, part, first_row, options)?);
    }
    Ok(responses)
}

fn generate_batch<B: Backend>(
    decoder: &Decoder<B>,
    prompts: &[Vec<u32>],
    first_row: usize,
    options: &GenerateOptions,
) -> Result<Vec<Response>, ModelError> {
    let mut batch = Batch::new(decoder, prompts, first_row, options)?;
    let mut states = batch.prefill(prompts)?;
    loop {
        let sampled = batch.sample(states)?;
        if !batch.record(&sampled) {
            return Ok(batch.responses);
        }
        states = batch.decode()?;
    }
}

/// Checks rows of token ids against a vocabulary.
///
/// # Errors
/// Names the first empty row or the first id outside.
pub fn check_tokens(rows: &[Vec<u32>], vocab: usize) -> Result<(), ModelError> {
    for (row, ids) in rows.iter().enumerate() {
        if ids.is_empty() {
            return Err(ModelError::Tokens(format!("row {} has no tokens; a model needs at least one", row + 1)));
        }
        if let Some(position) = ids.iter().position(|id| *id as usize >= vocab) {
            return Err(ModelError::TokenOutOfRange { id: ids[position], row: row + 1, position: position + 1, vocab });
        }
    }
    Ok(())
}

/// Rows padded on the right with token 0 to the longest, as a device tensor `[rows, longest]`.
pub fn padded_tokens<B: Backend>(rows: &[Vec<u32>], device: &B::Device) -> Tensor<B, 2, Int> {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let ids: Vec<u32> =
        rows.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat_n(0, longest - ids.len()))).collect();
    token_tensor(&ids, device).reshape([rows.len(), longest])
}

/// The rows still being generated, and what has been so far.
struct Batch<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    options: &'a GenerateOptions,
    device: B::Device,
    /// Per row of the batch: which prompt it continues, the position of its next token, its newest token.
    rows: Vec<Row>,
    rngs: Vec<ChaCha8Rng>,
    responses: Vec<Response>,
    pass: Pass<B>,
    /// Masks each row's unused prompt slots, `[rows, longest_prompt]`; nothing where no row has any.
    holes: Option<Tensor<B, 2>>,
    longest_prompt: usize,
    generated: usize,
}

struct Row {
    prompt: usize,
    position: usize,
    newest: u32,
}

impl<'a, B: Backend> Batch<'a, B> {
    fn new(
        decoder: &'a Decoder<B>,
        prompts: &[Vec<u32>],
        first_row: usize,
        options: &'a GenerateOptions,
    ) -> Result<Self, ModelError> {
        let device = decoder.device();
        let longest_prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let depth = options.site.depth(decoder.num_layers())?;
        let mut pass = decoder.whole_pass(longest_prompt);
        pass.cache = Some(KvCache::new(depth));
        Ok(Self {
            decoder,
            options,
            rows: prompts
                .iter()
                .enumerate()
                .map(|(prompt, ids)| Row { prompt, position: ids.len(), newest: 0 })
                .collect(),
            rngs: (0..prompts.len()).map(|row| row_rng(options.seed, first_row + row)).collect(),
            responses: vec![Response::default(); prompts.len()],
            pass,
            holes: holes(prompts, longest_prompt, &device),
            longest_prompt,
            generated: 0,
            device,
        })
    }

    /// Runs the prompts and returns the state of each row's last token, `[rows, hidden]`.
    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Tensor<B, 2>, ModelError> {
        let states = self.site_state(padded_tokens(prompts, &self.device))?;
        let hidden = states.dims()[2];
        let last: Vec<u32> =
            prompts.iter().enumerate().map(|(row, ids)| (row * self.longest_prompt + ids.len() - 1) as u32).collect();
        let states = states.reshape([prompts.len() * self.longest_prompt, hidden]);
        Ok(states.select(0, token_tensor(&last, &self.device)))
    }

    /// Runs the newest token of each row and returns its state, `[rows, hidden]`.
    fn decode(&mut self) -> Result<Tensor<B, 2>, ModelError> {
        let positions: Vec<usize> = self.rows.iter().map(|row| row.position).collect();
        let generated = Tensor::zeros([self.rows.len(), self.generated], &self.device);
        let holes = self.holes.as_ref().map(|holes| Tensor::cat(vec![holes.clone(), generated], 1));
        self.pass.next_token(self.decoder, &positions, holes);
        let newest: Vec<u32> = self.rows.iter().map(|row| row.newest).collect();
        let states = self.site_state(token_tensor(&newest, &self.device).unsqueeze_dim(1))?;
        self.rows.iter_mut().for_each(|row| row.position += 1);
        Ok(states.squeeze_dim(1))
    }

    fn site_state(&mut self, tokens: Tensor<B, 2, Int>) -> Result<Tensor<B, 3>, ModelError> {
        Ok(self.decoder.site_state(tokens, self.options.site, self.options.norm, &mut self.pass)?)
    }

    fn sample(&mut self, states: Tensor<B, 2>) -> Result<Vec<Sampled>, ModelError> {
        let policy = InternalPolicy::new(states, self.decoder.unembedding());
        if self.options.temperature == 0.0 {
            return Ok(policy.greedy()?);
        }
        let uniforms: Vec<f64> = self.rows.iter().map(|row| self.rngs[row.prompt].random()).collect();
        Ok(policy.with_temperature(self.options.temperature).sample(&uniforms)?)
    }

    /// Appends the sampled tokens; says whether any row goes on. Finished rows leave once they are a quarter.
    fn record(&mut self, sampled: &[Sampled]) -> bool {
        self.generated += 1;
        for (row, sampled) in self.rows.iter_mut().zip(sampled) {
            row.newest = sampled.token;
            let response = &mut self.responses[row.prompt];
            if !response.finished {
                response.tokens.push(sampled.token);
                response.log_probs.push(sampled.log_prob);
                response.finished = self.options.eos_token_ids.contains(&sampled.token);
            }
        }
        let going: Vec<u32> =
            (0u32..).zip(&self.rows).filter(|(_, row)| !self.responses[row.prompt].finished).map(|(i, _)| i).collect();
        if going.is_empty() || self.generated == self.options.max_new_tokens {
            return false;
        }
        if going.len() * 4 <= self.rows.len() * 3 {
            let kept = token_tensor(&going, &self.device);
            if let Some(cache) = &mut self.pass.cache {
                cache.keep_rows(&kept);
            }
            self.holes = self.holes.take().map(|holes| holes.select(0, kept));
            self.rows.retain(|row| !self.responses[row.prompt].finished);
        }
        true
    }
}

/// The random stream of one row.
fn row_rng(seed: u64, row: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(row as u64);
    rng
}

fn holes<B: Backend>(prompts: &[Vec<u32>], longest: usize, device: &B::Device) -> Option<Tensor<B, 2>> {
    if prompts.iter().all(|ids| ids.len() == longest) {
        return None;
    }
    let values: Vec<f32> =
        prompts.iter().flat_map(|ids| (0..longest).map(|slot| if slot < ids.len() { 0.0 } else { MASKED })).collect();
    Some(Tensor::from_data(TensorData::new(values, [prompts.len(), longest]), device))
}
