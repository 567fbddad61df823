//! Measuring many responses, some at a time.

use bupo_models::{Decoder, MeasureOptions, Sequence, measure};
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
        let mut order: Vec<&(Sequence, Option<f64>)> = responses.iter().collect();
        order.sort_by_key(|(sequence, _)| sequence.len());
        let mut rest = &order[..];
        while !rest.is_empty() {
            // The last of a run is its longest.
            let fits = |count: &usize| count * rest[count - 1].0.len() <= TOKENS_AT_ONCE;
            let (block, others) = rest.split_at((1..=rest.len()).take_while(fits).last().unwrap_or(1));
            let sequences: Vec<Sequence> = block.iter().map(|(sequence, _)| sequence.clone()).collect();
            for (measures, (_, score)) in measure(decoder, &sequences, options)?.iter().zip(block) {
                self.push(measures, *score)?;
            }
            rest = others;
        }
        Ok(())
    }
}
