//! The timed work: that of `bupo train`, `generate`, `trace` and `analyze`, on random tokens.

use bupo_core::{Norm, PolicySite};
use bupo_models::{
    Decoder, GenerateOptions, MeasureOptions, ModelConfig, Sequence, entropies, generate, measure, token_batches,
};
use burn::tensor::backend::Backend;
use rand::Rng;

use super::{BenchMode, BenchSpec};
use crate::RlError;
use crate::loss::Objective;
use crate::random::{Purpose, stream};
use crate::update::PolicySpec;
use crate::update::{AdamWSettings, DecoderOptimizer};
use crate::update::{LossSpec, Sample, update};

/// Tokens per batch of `bupo analyze`.
const MEASURED_AT_ONCE: usize = 2048;

pub(super) struct Work<B: Backend> {
    spec: BenchSpec,
    optimizer: DecoderOptimizer<B>,
    /// Prompts of one token with responses of `seq` tokens, so that every token is in the loss.
    samples: Vec<Sample>,
    /// Prompts of a rollout, each repeated once per response.
    prompts: Vec<Vec<u32>>,
}

impl<B: Backend> Work<B> {
    pub(super) fn new(spec: &BenchSpec, config: &ModelConfig) -> Self {
        let mut rng = stream(0, Purpose::Problems, 0);
        let mut ids =
            |count: usize| -> Vec<u32> { (0..count).map(|_| rng.random_range(0..config.vocab_size as u32)).collect() };
        let samples = (0..spec.batch)
            .map(|index| Sample {
                sequence: Sequence { prompt: ids(1), response: ids(spec.seq) },
                advantage: if index % 2 == 0 { 1.0 } else { -1.0 },
                critic: None,
                old_log_probs: None,
                ref_log_probs: None,
                sampling: None,
                chosen: Default::default(),
                terms: Vec::new(),
            })
            .collect();
        let groups = spec.batch.div_ceil(spec.group);
        let prompts: Vec<Vec<u32>> = (0..groups).map(|_| ids(spec.seq)).collect();
        let prompts = prompts.into_iter().flat_map(|prompt| vec![prompt; spec.group]).take(spec.batch).collect();
        Self { spec: spec.clone(), optimizer: DecoderOptimizer::new(AdamWSettings::default()), samples, prompts }
    }

    /// Tokens of one run.
    pub(super) fn tokens(&self) -> usize {
        let each = if self.spec.mode == BenchMode::Rollout { self.spec.new } else { self.spec.seq };
        self.spec.batch * each
    }

    pub(super) fn run(&mut self, decoder: &mut Decoder<B>) -> Result<(), RlError> {
        match self.spec.mode {
            BenchMode::Train => self.update(decoder, PolicySite::Full),
            BenchMode::Phase1 => self.update(decoder, PolicySite::Layer(self.spec.layer)),
            BenchMode::Rollout => {
                let options = GenerateOptions {
                    site: PolicySite::Full,
                    norm: Norm::None,
                    temperature: 1.0,
                    sampling: Default::default(),
                    max_new_tokens: self.spec.new,
                    eos_token_ids: Vec::new(),
                    seed: 0,
                    first_row: 0,
                    batch: self.spec.batch,
                };
                generate(decoder, &self.prompts, &options)?;
                Ok(())
            }
            BenchMode::Analyze => {
                let rows: Vec<Vec<u32>> = self.samples.iter().map(|sample| sample.sequence.response.clone()).collect();
                for rows in token_batches(&rows, Vec::len, MEASURED_AT_ONCE) {
                    entropies(decoder, rows)?;
                }
                Ok(())
            }
            BenchMode::Measure => {
                let sequences: Vec<Sequence> = self.samples.iter().map(|sample| sample.sequence.clone()).collect();
                for sequences in token_batches(&sequences, |sequence| sequence.response.len(), MEASURED_AT_ONCE) {
                    measure(decoder, sequences, MeasureOptions::default())?;
                }
                Ok(())
            }
        }
    }

    fn update(&mut self, decoder: &mut Decoder<B>, site: PolicySite) -> Result<(), RlError> {
        let loss = LossSpec {
            policy: PolicySpec { site, norm: Norm::None, temperature: 1.0 },
            objective: Objective::default(),
            norm_length: None,
            max_tokens_per_batch: self.spec.max_tokens_per_batch,
            recompute: self.spec.recompute,
            correction: None,
            terms: Vec::new(),
        };
        update(decoder, &mut self.optimizer, &self.samples, &loss).map(drop)
    }
}
