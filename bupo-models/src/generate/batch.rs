//! Continuous batching: waiting prompts take the places of finished rows.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use bupo_core::kv_cache::{CacheRoom, KvCache};
use bupo_core::{InternalPolicy, ResidualDecoder, Sampled, token_tensor};
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::options::{GenerateOptions, GenerationProgress, Response};
use super::rows::padded_tokens;
use super::stop::StopStrings;
use crate::{Decoder, ModelError};

/// The largest number of prompt tokens, padding included, in one prefill pass.
pub const PREFILL_TOKENS: usize = 1 << 13;

/// The rows being generated, the waiting prompts, and the responses.
pub(super) struct Batch<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    options: &'a GenerateOptions,
    prompts: &'a [Vec<u32>],
    stop: Option<StopStrings<'a>>,
    waiting: VecDeque<usize>,
    rows: Vec<Row>,
    cache: KvCache<B>,
    responses: Vec<Response>,
    report: &'a mut dyn FnMut(GenerationProgress<'_>) -> ControlFlow<()>,
    /// Whether `report` ended the generation.
    stopped: bool,
}

struct Row {
    /// The index of its prompt and response.
    prompt: usize,
    newest: u32,
    rng: ChaCha8Rng,
    /// The tokens of the prompt and the response, if sampling depends on them.
    history: Vec<u32>,
    done: bool,
}

impl<'a, B: Backend> Batch<'a, B> {
    pub(super) fn new(
        decoder: &'a Decoder<B>,
        prompts: &'a [Vec<u32>],
        options: &'a GenerateOptions,
        stop: Option<StopStrings<'a>>,
        report: &'a mut dyn FnMut(GenerationProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Self, ModelError> {
        let depth = options.site.depth(decoder.num_layers())?;
        let room = CacheRoom { rows: options.batch.clamp(1, prompts.len().max(1)), slots: options.max_new_tokens };
        Ok(Self {
            decoder,
            options,
            prompts,
            stop,
            waiting: (0..prompts.len()).collect(),
            rows: Vec::with_capacity(room.rows),
            cache: KvCache::new(depth, room),
            responses: vec![Response::default(); prompts.len()],
            report,
            stopped: false,
        })
    }

    pub(super) fn run(mut self) -> Result<Vec<Response>, ModelError> {
        while !self.stopped {
            self.evict_finished();
            self.admit()?;
            if self.rows.iter().all(|row| row.done) {
                if self.waiting.is_empty() {
                    break;
                }
                continue;
            }
            self.decode()?;
        }
        Ok(self.responses)
    }

    /// Removes finished rows: as soon as there are some if that is free, as soon as enough waiting prompts can take
    /// their places, or once they are a quarter of all.
    fn evict_finished(&mut self) {
        let done = self.rows.iter().filter(|row| row.done).count();
        let enough = if self.cache.keeps_in_place() {
            1
        } else if self.waiting.is_empty() {
            self.rows.len().div_ceil(4)
        } else {
            self.worth_admitting()
        };
        if done == 0 || done < enough {
            return;
        }
        let unfinished: Vec<usize> = (0..self.rows.len()).filter(|row| !self.rows[*row].done).collect();
        self.cache.keep(&unfinished);
        self.rows.retain(|row| !row.done);
    }

    /// How many waiting prompts are worth a prefill pass.
    fn worth_admitting(&self) -> usize {
        (self.room() / 8).clamp(1, self.waiting.len().max(1))
    }

    fn room(&self) -> usize {
        self.options.batch.max(1)
    }

    /// Prefills waiting prompts, each distinct one once, and samples the first tokens of their responses.
    fn admit(&mut self) -> Result<(), ModelError> {
        let free = self.room() - self.rows.len();
        if self.waiting.is_empty() || free < self.worth_admitting() {
            return Ok(());
        }
        let mut admitted: VecDeque<usize> = self.waiting.drain(..free.min(self.waiting.len())).collect();
        while !admitted.is_empty() {
            // Distinct prompts in order, as many as fit into one pass.
            let mut distinct: Vec<Vec<u32>> = Vec::new();
            let mut places = HashMap::new();
            let mut members: Vec<Vec<usize>> = Vec::new();
            let mut longest = 0;
            while let Some(next) = admitted.front().copied() {
                let prompt = &self.prompts[next];
                if !places.contains_key(prompt) {
                    let padded = longest.max(prompt.len()) * (distinct.len() + 1);
                    if !distinct.is_empty() && padded > PREFILL_TOKENS {
                        break;
                    }
                    longest = longest.max(prompt.len());
                    places.insert(prompt, distinct.len());
                    distinct.push(prompt.clone());
                    members.push(Vec::new());
                }
                members[places[prompt]].push(next);
                admitted.pop_front();
            }
            self.prefill(&distinct, &members)?;
        }
        Ok(())
    }

    fn prefill(&mut self, distinct: &[Vec<u32>], members: &[Vec<usize>]) -> Result<(), ModelError> {
        let device = self.decoder.device();
        let longest = distinct.iter().map(Vec::len).max().unwrap_or(0);
        let mut context = self.decoder.prefill_context(longest);
        context.collected = Some(Vec::new());
        let tokens = padded_tokens(distinct, &device);
        let states = self.decoder.site_state(tokens, self.options.site, self.options.norm, &mut context)?;
        let hidden = states.dims()[2];
        let last: Vec<u32> =
            distinct.iter().enumerate().map(|(row, ids)| (row * longest + ids.len() - 1) as u32).collect();
        let states = states.reshape([distinct.len() * longest, hidden]).select(0, token_tensor(&last, &device));
        let sources: Vec<(usize, usize)> = members
            .iter()
            .enumerate()
            .flat_map(|(place, members)| members.iter().map(move |_| (place, distinct[place].len())))
            .collect();
        self.cache.admit(&context.collected.unwrap_or_default(), &sources);
        let mut rngs: Vec<Vec<ChaCha8Rng>> =
            members.iter().map(|members| members.iter().map(|prompt| self.row_rng(*prompt)).collect()).collect();
        let policy = self.decoder.policy(states);
        let histories: Vec<&[u32]> = distinct.iter().map(Vec::as_slice).collect();
        let sampled = if self.options.temperature == 0.0 {
            let best = self.greedy(&policy, &histories)?;
            best.into_iter().zip(members).map(|(best, members)| vec![best; members.len()]).collect()
        } else {
            let uniforms: Vec<Vec<f64>> =
                rngs.iter_mut().map(|rngs| rngs.iter_mut().map(|rng| rng.random()).collect()).collect();
            self.sample(policy, &uniforms, &histories)?
        };
        let penalized = self.options.sampling.repetition_penalty != 1.0;
        for ((members, rngs), sampled) in members.iter().zip(rngs).zip(sampled) {
            for ((prompt, rng), sampled) in members.iter().zip(rngs).zip(sampled) {
                let history = if penalized { self.prompts[*prompt].clone() } else { Vec::new() };
                self.rows.push(Row { prompt: *prompt, newest: 0, rng, history, done: false });
                self.record(self.rows.len() - 1, &sampled)?;
            }
        }
        Ok(())
    }

    /// Runs the newest token of each row and samples the next.
    fn decode(&mut self) -> Result<(), ModelError> {
        let cache = std::mem::replace(&mut self.cache, KvCache::new(0, CacheRoom { rows: 0, slots: 0 }));
        let mut context = self.decoder.decode_context(cache);
        let newest: Vec<u32> = self.rows.iter().map(|row| row.newest).collect();
        let tokens = token_tensor(&newest, &self.decoder.device()).unsqueeze_dim(1);
        let states: Tensor<B, 2> =
            self.decoder.site_state(tokens, self.options.site, self.options.norm, &mut context)?.squeeze_dim(1);
        if let Some(cache) = context.cache {
            self.cache = cache;
        }
        self.cache.advance();
        let policy = self.decoder.policy(states);
        let uniforms: Vec<Vec<f64>> = if self.options.temperature == 0.0 {
            Vec::new()
        } else {
            self.rows.iter_mut().map(|row| vec![row.rng.random()]).collect()
        };
        let histories: Vec<&[u32]> = self.rows.iter().map(|row| row.history.as_slice()).collect();
        let sampled = if self.options.temperature == 0.0 {
            self.greedy(&policy, &histories)?
        } else {
            self.sample(policy, &uniforms, &histories)?.into_iter().flatten().collect()
        };
        sampled.iter().enumerate().try_for_each(|(row, sampled)| self.record(row, sampled))
    }

    /// The most probable token of each state.
    fn greedy(&self, policy: &InternalPolicy<B>, histories: &[&[u32]]) -> Result<Vec<Sampled>, ModelError> {
        let params = &self.options.sampling;
        if params.repetition_penalty == 1.0 {
            return Ok(policy.greedy()?);
        }
        Ok(policy.greedy_restricted(params, histories)?)
    }

    /// One token for each uniform of each state.
    fn sample(
        &self,
        policy: InternalPolicy<B>,
        uniforms: &[Vec<f64>],
        histories: &[&[u32]],
    ) -> Result<Vec<Vec<Sampled>>, ModelError> {
        let policy = policy.with_temperature(self.options.temperature);
        let params = &self.options.sampling;
        if params.is_active() {
            return Ok(policy.sample_restricted(uniforms, params, histories)?);
        }
        Ok(policy.sample_several(uniforms)?)
    }

    fn record(&mut self, row: usize, sampled: &Sampled) -> Result<(), ModelError> {
        let row = &mut self.rows[row];
        row.newest = sampled.token;
        if row.done || self.stopped {
            return Ok(());
        }
        if !row.history.is_empty() {
            row.history.push(sampled.token);
        }
        let response = &mut self.responses[row.prompt];
        response.tokens.push(sampled.token);
        response.log_probs.push(sampled.log_prob);
        response.finished = self.options.eos_token_ids.contains(&sampled.token);
        if let Some(stop) = self.stop.filter(|_| !response.finished) {
            response.finished = stop.stops(&response.tokens)?;
        }
        row.done = response.finished || response.tokens.len() == self.options.max_new_tokens;
        let progress = GenerationProgress { prompt: row.prompt, response, done: row.done };
        self.stopped = (self.report)(progress).is_break();
        Ok(())
    }

    /// The random stream of one row, which does not depend on the batch.
    fn row_rng(&self, prompt: usize) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        rng.set_stream((self.options.first_row + prompt) as u64);
        rng
    }
}
