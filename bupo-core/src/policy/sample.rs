//! Sampling tokens from a policy, and its most probable tokens.

use burn::tensor::{Tensor, backend::Backend};
use rayon::prelude::*;

use super::device_sample::{SAMPLE_WIDTH, best_tokens, sample_rows};
use super::internal_policy::InternalPolicy;
use super::row_logits::RowLogits;
use super::sampled::{Sampled, TokenProb, TokenRank};
use super::sampling_params::SamplingParams;
use crate::CoreError;
use crate::kernels::host::{Host, is_host_f32};
use crate::kernels::runs_on_gpu;
use crate::profile::{Part, timed};

impl<B: Backend> InternalPolicy<B> {
    /// Samples one token per state by inverting the cumulative distribution at `uniforms`, numbers in `[0, 1)` from the
    /// host, so that every backend samples the same tokens.
    ///
    /// # Errors
    /// If a logit is not finite.
    ///
    /// # Panics
    /// If there are not as many uniforms as states.
    pub fn sample(&self, uniforms: &[f64]) -> Result<Vec<Sampled>, CoreError> {
        assert_eq!(uniforms.len(), self.states.dims()[0], "one uniform per state");
        if !is_host_f32(&self.states) {
            let uniforms: Vec<Vec<f64>> = uniforms.iter().map(|uniform| vec![*uniform]).collect();
            return Ok(self.sample_on_device(&uniforms, None)?.into_iter().flatten().collect());
        }
        self.per_row(|row, logits| logits.draw(uniforms[row]))
    }

    /// Samples from each state once per uniform of it, with one computation of its logits, as for several responses to
    /// one prompt.
    ///
    /// # Errors
    /// As [`Self::sample`].
    ///
    /// # Panics
    /// As [`Self::sample`].
    pub fn sample_several(&self, uniforms: &[Vec<f64>]) -> Result<Vec<Vec<Sampled>>, CoreError> {
        assert_eq!(uniforms.len(), self.states.dims()[0], "uniforms for each state");
        if !is_host_f32(&self.states) {
            return self.sample_on_device(uniforms, None);
        }
        self.per_row(|row, logits| uniforms[row].iter().map(|uniform| logits.draw(*uniform)).collect())
    }

    /// [`Self::sample_several`] with restrictions of the tokens. `histories` has the ids of the prompt and the response
    /// so far of each state, in any order, for the repetition penalty. Log-probs are those of the unrestricted policy
    /// at its temperature.
    ///
    /// # Errors
    /// As [`Self::sample`].
    ///
    /// # Panics
    /// As [`Self::sample`]; if there are not as many histories as states, or one has an id outside the vocabulary.
    pub fn sample_restricted(
        &self,
        uniforms: &[Vec<f64>],
        params: &SamplingParams,
        histories: &[&[u32]],
    ) -> Result<Vec<Vec<Sampled>>, CoreError> {
        assert_eq!(uniforms.len(), self.states.dims()[0], "uniforms for each state");
        self.check_histories(histories);
        if runs_on_gpu::<B>() && params.repetition_penalty == 1.0 {
            return self.sample_on_device(uniforms, Some(params));
        }
        self.per_row(|row, logits| {
            let candidates = params.restrict(logits, histories[row]);
            uniforms[row].iter().map(|uniform| logits.sampled(candidates.draw(*uniform))).collect()
        })
    }

    /// [`Self::greedy`] after the repetition penalty of `params`. Log-probs are those of the unpenalized policy.
    ///
    /// # Errors
    /// If a logit is not finite.
    ///
    /// # Panics
    /// If there are not as many histories as states, or one has an id outside the vocabulary.
    pub fn greedy_restricted(&self, params: &SamplingParams, histories: &[&[u32]]) -> Result<Vec<Sampled>, CoreError> {
        self.check_histories(histories);
        self.per_row(|row, logits| logits.sampled(params.greedy(logits, histories[row])))
    }

    /// The most probable token of each state; the first one on a tie.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub fn greedy(&self) -> Result<Vec<Sampled>, CoreError> {
        if !is_host_f32(&self.states) {
            return timed::<B, _>(Part::Sampling, &self.states.device(), || {
                let best = self.chunks().map(|rows| best_tokens(self.sampling_logits(rows))).collect();
                Host::take(Tensor::cat(best, 0)).values().chunks_exact(SAMPLE_WIDTH).map(Sampled::from_device).collect()
            });
        }
        self.per_row(|_, row| row.sampled(row.logits.iter().position(|logit| *logit == row.max).unwrap_or_default()))
    }

    /// The `k` most probable tokens of each state, most probable first.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub fn top_tokens(&self, k: usize) -> Result<Vec<Vec<TokenProb>>, CoreError> {
        self.per_row(|_, row| {
            let k = k.min(row.logits.len());
            let mut order: Vec<usize> = (0..row.logits.len()).collect();
            let by_logit = |a: &usize, b: &usize| row.logits[*b].total_cmp(&row.logits[*a]).then(a.cmp(b));
            if k > 0 && k < order.len() {
                order.select_nth_unstable_by(k - 1, by_logit);
            }
            order.truncate(k);
            order.sort_by(by_logit);
            order.into_iter().map(|token| TokenProb { token: token as u32, prob: row.prob(token) }).collect()
        })
    }

    /// The place of `token` at each state.
    ///
    /// # Errors
    /// If a logit is not finite.
    ///
    /// # Panics
    /// If the token is outside the vocabulary.
    pub fn token_ranks(&self, token: u32) -> Result<Vec<TokenRank>, CoreError> {
        let token = token as usize;
        self.per_row(|_, row| {
            let logit = row.logits[token];
            let rank = 1 + row.logits.iter().filter(|other| **other > logit).count();
            TokenRank { rank, logit, prob: row.prob(token) }
        })
    }

    /// Samples on the device and reads back the tokens only, in one transfer for all states.
    fn sample_on_device(
        &self,
        uniforms: &[Vec<f64>],
        params: Option<&SamplingParams>,
    ) -> Result<Vec<Vec<Sampled>>, CoreError> {
        let draws = uniforms.iter().map(Vec::len).max().unwrap_or(0);
        if draws == 0 {
            return Ok(vec![Vec::new(); uniforms.len()]);
        }
        timed::<B, _>(Part::Sampling, &self.states.device(), || {
            let drawn: Vec<Tensor<B, 2>> = self
                .chunks()
                .map(|rows| {
                    // As many draws of every chunk, so that they can be concatenated.
                    let mut uniforms = uniforms[rows.clone()].to_vec();
                    uniforms.iter_mut().for_each(|uniforms| uniforms.resize(draws, 0.5));
                    sample_rows(self.sampling_logits(rows), &uniforms, params)
                })
                .collect();
            let drawn = Host::take(Tensor::cat(drawn, 0));
            let rows = uniforms.iter().zip(drawn.values().chunks_exact(SAMPLE_WIDTH * draws));
            rows.map(|(uniforms, drawn)| {
                drawn.chunks_exact(SAMPLE_WIDTH).take(uniforms.len()).map(Sampled::from_device).collect()
            })
            .collect()
        })
    }

    fn check_histories(&self, histories: &[&[u32]]) {
        let [vocab, _] = self.unembedding.dims();
        assert_eq!(histories.len(), self.states.dims()[0], "one history per state");
        let inside = histories.iter().flat_map(|ids| ids.iter()).all(|id| (*id as usize) < vocab);
        assert!(inside, "an id of a history is outside the vocabulary");
    }

    /// Reads the logits back chunk by chunk and applies `f` to each row, on all cores.
    fn per_row<T: Send>(&self, f: impl Fn(usize, &RowLogits<'_>) -> T + Sync) -> Result<Vec<T>, CoreError> {
        timed::<B, _>(Part::Sampling, &self.states.device(), || self.rows(f))
    }

    fn rows<T: Send>(&self, f: impl Fn(usize, &RowLogits<'_>) -> T + Sync) -> Result<Vec<T>, CoreError> {
        let [tokens, _] = self.states.dims();
        let [vocab, _] = self.unembedding.dims();
        let mut rows = Vec::with_capacity(tokens);
        for chunk in self.chunks() {
            let logits = Host::take(self.sampling_logits(chunk.clone()));
            let read = logits.values().par_chunks_exact(vocab).enumerate();
            let read: Vec<Result<T, CoreError>> =
                read.map(|(row, logits)| RowLogits::read(logits).map(|logits| f(chunk.start + row, &logits))).collect();
            for row in read {
                rows.push(row?);
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    use super::*;

    /// Three states over four tokens whose logits are the states themselves.
    fn policy() -> InternalPolicy<Flex> {
        let device = Default::default();
        let states = [[0.0, 1.0, 2.0, -1.0], [5.0, 0.0, 0.0, 5.0], [-3.0, -3.0, -3.0, -3.0]];
        InternalPolicy::new(Tensor::from_floats(states, &device), Tensor::eye(4, &device))
    }

    #[test]
    fn sampling_inverts_the_cumulative_distribution() -> Result<(), CoreError> {
        let policy = policy();
        let draws = 4000;
        let mut counts = [[0.0; 4]; 3];
        for draw in 0..draws {
            let uniform = (f64::from(draw) + 0.5) / f64::from(draws);
            for (row, sampled) in policy.sample(&[uniform; 3])?.iter().enumerate() {
                counts[row][sampled.token as usize] += 1.0 / f64::from(draws);
            }
        }
        for (row, top) in policy.top_tokens(4)?.iter().enumerate() {
            for token in top {
                let share = counts[row][token.token as usize];
                assert!((share - f64::from(token.prob)).abs() < 1e-3, "row {row} {token:?} {share}");
            }
        }
        Ok(())
    }

    #[test]
    fn sampled_log_probs_match_token_stats() -> Result<(), CoreError> {
        for temperature in [1.0, 0.5, 2.0] {
            let policy = policy().with_temperature(temperature);
            let sampled = policy.sample(&[0.7, 0.2, 0.9])?;
            let tokens: Vec<u32> = sampled.iter().map(|sampled| sampled.token).collect();
            for (sampled, log_prob) in sampled.iter().zip(policy.token_stats(&tokens).log_probs) {
                assert!((sampled.log_prob - log_prob).abs() < 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn greedy_takes_the_first_token_on_a_tie() -> Result<(), CoreError> {
        let tokens: Vec<u32> = policy().greedy()?.iter().map(|sampled| sampled.token).collect();
        assert_eq!(tokens, [2, 0, 0]);
        Ok(())
    }

    #[test]
    fn top_tokens_come_in_order() -> Result<(), CoreError> {
        let top: Vec<Vec<u32>> =
            policy().top_tokens(2)?.iter().map(|row| row.iter().map(|token| token.token).collect()).collect();
        assert_eq!(top, [[2, 1], [0, 3], [0, 1]]);
        Ok(())
    }

    #[test]
    fn a_token_has_its_rank_among_all() -> Result<(), CoreError> {
        let policy = policy().with_temperature(2.0);
        for token in 0..4 {
            for (row, place) in policy.token_ranks(token)?.iter().enumerate() {
                let top = &policy.top_tokens(4)?[row];
                let index = top.iter().position(|other| other.token == token).unwrap_or_default();
                assert_eq!(place.prob, top[index].prob);
                // Tokens of one probability share the best rank.
                let first = top.iter().position(|other| other.prob == place.prob).unwrap_or_default();
                assert_eq!(place.rank, first + 1, "row {row} token {token}");
            }
        }
        assert_eq!(policy.token_ranks(2)?[0].logit, 1.0);
        Ok(())
    }

    /// NdArray samples with tensor operations.
    #[test]
    fn a_device_samples_the_same_tokens_as_the_host() {
        use burn::backend::NdArray;

        // Several blocks, the last one short, and tokens of weight 0.
        let vocab = 700;
        let logits: Vec<f32> = (0..3 * vocab)
            .map(|i| if i % 5 == 0 { -200.0 } else { ((i * 7919) % 997) as f32 / 100.0 + (i / vocab) as f32 * 30.0 })
            .collect();
        let data = TensorData::new(logits, [3, vocab]);
        let uniforms: Vec<Vec<f64>> =
            (0..3).map(|row| (0..40 + row).map(|i| (i as f64 + 0.5 + row as f64 / 10.0) / 43.0).collect()).collect();
        let on_host = {
            let device = Default::default();
            let policy =
                InternalPolicy::<Flex>::new(Tensor::from_data(data.clone(), &device), Tensor::eye(vocab, &device));
            policy.sample_several(&uniforms).unwrap()
        };
        let device = Default::default();
        let mut policy = InternalPolicy::<NdArray>::new(Tensor::from_data(data, &device), Tensor::eye(vocab, &device));
        for at_once in [usize::MAX, 2 * vocab] {
            policy.logits_at_once = at_once;
            let drawn = policy.sample_several(&uniforms).unwrap();
            assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), [40, 41, 42]);
            for (ours, theirs) in on_host.iter().flatten().zip(drawn.iter().flatten()) {
                assert_eq!(ours.token, theirs.token);
                assert!((ours.log_prob - theirs.log_prob).abs() < 1e-5, "{ours:?} and {theirs:?}");
            }
            // The ends of the range.
            for uniform in [0.0, 1.0 - 1e-16] {
                let ends = policy.sample(&[uniform; 3]).unwrap();
                assert!(ends.iter().all(|sampled| sampled.log_prob > -30.0), "{uniform}: {ends:?}");
            }
        }
        assert_eq!(policy.sample_several(&[vec![], vec![], vec![]]), Ok(vec![vec![]; 3]));
        for bad in [f32::NAN, f32::INFINITY] {
            let states = Tensor::<NdArray, 2>::from_floats([[0.0, bad, 0.0, 0.0]], &device);
            let policy = InternalPolicy::new(states, Tensor::eye(4, &device));
            assert_eq!(policy.sample(&[0.5]), Err(CoreError::NonFiniteLogits));
            assert_eq!(policy.greedy(), Err(CoreError::NonFiniteLogits));
        }
    }

    #[test]
    fn a_device_takes_the_same_greedy_tokens_as_the_host() {
        use burn::backend::NdArray;

        let device = Default::default();
        let vocab = 700;
        // Every value occurs several times; the first maximum is taken.
        let logits: Vec<f32> = (0..4 * vocab).map(|i| ((i * 7919) % 97) as f32 / 10.0).collect();
        let data = TensorData::new(logits, [4, vocab]);
        let on_host = InternalPolicy::<Flex>::new(
            Tensor::from_data(data.clone(), &Default::default()),
            Tensor::eye(vocab, &Default::default()),
        );
        let mut policy = InternalPolicy::<NdArray>::new(Tensor::from_data(data, &device), Tensor::eye(vocab, &device));
        for at_once in [usize::MAX, 3 * vocab] {
            policy.logits_at_once = at_once;
            for (ours, theirs) in policy.greedy().unwrap().iter().zip(on_host.greedy().unwrap()) {
                assert_eq!(ours.token, theirs.token);
                assert!((ours.log_prob - theirs.log_prob).abs() < 1e-5, "{ours:?} and {theirs:?}");
            }
        }
    }

    #[test]
    fn logits_that_are_not_finite_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            let device = Default::default();
            let states = Tensor::<Flex, 2>::from_floats([[0.0, bad, 0.0, 0.0]], &device);
            let policy = InternalPolicy::new(states, Tensor::eye(4, &device));
            assert_eq!(policy.sample(&[0.5]), Err(CoreError::NonFiniteLogits));
            assert_eq!(policy.greedy(), Err(CoreError::NonFiniteLogits));
        }
    }
}
