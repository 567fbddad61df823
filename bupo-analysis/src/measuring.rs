//! Measuring many responses, some at a time.

use bupo_models::{Decoder, MeasureOptions, ResponseMeasures, Sequence, measure};
use burn::tensor::backend::Backend;

use crate::{AnalysisError, Tally};

/// Prompt and response tokens of a block, padding included, if it has more than one response.
const TOKENS_AT_ONCE: usize = 2048;

impl Tally {
    /// Measures responses, each with what it is worth where that is known, and adds them. Like lengths are run together.
    ///
    /// # Errors
    /// Those of [`measure`], and of [`Tally::push`].
    pub fn measure<B: Backend>(
        &mut self,
        decoder: &Decoder<B>,
        responses: &[(Sequence, Option<f64>)],
        options: MeasureOptions,
    ) -> Result<(), AnalysisError> {
        let mut order: Vec<usize> = (0..responses.len()).collect();
        order.sort_by_key(|index| responses[*index].0.len());
        let mut measured: Vec<Option<ResponseMeasures>> = vec![None; responses.len()];
        let mut rest = &order[..];
        while !rest.is_empty() {
            // The last of a run is its longest.
            let fits = |count: &usize| count * responses[rest[count - 1]].0.len() <= TOKENS_AT_ONCE;
            let (block, others) = rest.split_at((1..=rest.len()).take_while(fits).last().unwrap_or(1));
            let sequences: Vec<Sequence> = block.iter().map(|index| responses[*index].0.clone()).collect();
            for (index, measures) in block.iter().zip(measure(decoder, &sequences, options)?) {
                measured[*index] = Some(measures);
            }
            rest = others;
        }
        // In the order given, so that intervals do not depend on what was run together.
        for (measures, (_, score)) in measured.iter().flatten().zip(responses) {
            self.push(measures, *score)?;
        }
        Ok(())
    }
}
