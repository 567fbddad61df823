//! Measuring responses in batches.

use bupo_core::ResidualDecoder;
use bupo_models::{Decoder, MeasureOptions, ResponseMeasures, ScoredSequence, Sequence, measure};
use burn::tensor::backend::Backend;

use crate::{AnalysisError, MeasureAccumulator};

/// Limit of the prompt and response tokens of a batch with more than one response, padding included.
const MAX_BATCH_TOKENS: usize = 2048;

impl MeasureAccumulator {
    /// Measures responses and adds them. Responses of similar lengths share a batch. `report` is told how many were measured, after
    /// each batch.
    ///
    /// # Errors
    /// Those of [`measure`], and of [`MeasureAccumulator::push`].
    pub fn measure<B: Backend>(
        &mut self,
        decoder: &Decoder<B>,
        responses: &[ScoredSequence],
        options: MeasureOptions,
        report: &dyn Fn(usize),
    ) -> Result<(), AnalysisError> {
        let decoder = &decoder.with_packed_weights(decoder.num_layers());
        let mut order: Vec<usize> = (0..responses.len()).collect();
        order.sort_by_key(|index| responses[*index].sequence.len());
        let mut measured: Vec<Option<ResponseMeasures>> = vec![None; responses.len()];
        let mut rest = &order[..];
        while !rest.is_empty() {
            // In order of length, the last response of a batch is the longest.
            let fits = |count: &usize| count * responses[rest[count - 1]].sequence.len() <= MAX_BATCH_TOKENS;
            let (batch, others) = rest.split_at((1..=rest.len()).take_while(fits).last().unwrap_or(1));
            let sequences: Vec<Sequence> = batch.iter().map(|index| responses[*index].sequence.clone()).collect();
            for (index, measures) in batch.iter().zip(measure(decoder, &sequences, options)?) {
                measured[*index] = Some(measures);
            }
            report(batch.len());
            rest = others;
        }
        // In the given order, so that the intervals do not depend on the batches.
        for (measures, response) in measured.iter().flatten().zip(responses) {
            self.push(measures, response.score)?;
        }
        Ok(())
    }
}
