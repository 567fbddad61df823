//! Measuring responses in batches.

use bupo_core::ResidualDecoder;
use bupo_models::{Decoder, MeasureOptions, ResponseMeasures, ScoredSequence, Sequence, measure, token_batches};
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
        let decoder = &decoder.for_many_rows(decoder.num_layers());
        let mut measured: Vec<Option<ResponseMeasures>> = vec![None; responses.len()];
        for batch in batches(responses) {
            let sequences: Vec<Sequence> = batch.iter().map(|index| responses[*index].sequence.clone()).collect();
            for (index, measures) in batch.iter().zip(measure(decoder, &sequences, options)?) {
                measured[*index] = Some(measures);
            }
            report(batch.len());
        }
        // In the given order, so that the intervals do not depend on the batches.
        for (measures, response) in measured.iter().flatten().zip(responses) {
            self.push(measures, response.score)?;
        }
        Ok(())
    }
}

/// The indices of responses of similar lengths, batch by batch.
pub(crate) fn batches(responses: &[ScoredSequence]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..responses.len()).collect();
    order.sort_by_key(|index| responses[*index].sequence.len());
    let batches = token_batches(&order, |index| responses[*index].sequence.len(), MAX_BATCH_TOKENS);
    batches.into_iter().map(<[usize]>::to_vec).collect()
}
