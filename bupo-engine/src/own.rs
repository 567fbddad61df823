//! The project's own generation as an engine.

use std::ops::ControlFlow;

use bupo_models::{Decoder, StopStrings, TextTokenizer, generate_with};
use burn::tensor::backend::Backend;

use crate::{Engine, EngineError, Report, Rollouts, SampleRequest, Weights};

/// Generates in this process, from a decoder whose weights are always the present ones.
#[derive(Debug, Clone, Copy)]
pub struct OwnEngine<'a, B: Backend> {
    decoder: &'a Decoder<B>,
    tokenizer: &'a TextTokenizer,
}

impl<'a, B: Backend> OwnEngine<'a, B> {
    /// Samples from `decoder`; stop strings are looked for in text decoded by `tokenizer`.
    pub fn new(decoder: &'a Decoder<B>, tokenizer: &'a TextTokenizer) -> Self {
        Self { decoder, tokenizer }
    }
}

impl<B: Backend> Engine for OwnEngine<'_, B> {
    fn sample(&self, request: &SampleRequest, report: &Report<'_>) -> Result<Rollouts, EngineError> {
        let rows: Vec<Vec<u32>> =
            request.prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), request.samples)).collect();
        let stop = StopStrings::new(self.tokenizer, &request.stop)?;
        let stop = (!request.stop.is_empty()).then_some(stop);
        let responses = generate_with(self.decoder, &rows, &request.options, stop, &mut |progress| {
            if progress.done {
                report(1);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Rollouts { responses, version: None })
    }

    /// Does nothing: the trainer's updates change the decoder itself.
    fn load_weights(&self, _weights: &Weights) -> Result<(), EngineError> {
        Ok(())
    }
}
