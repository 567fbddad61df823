//! Log-probs, entropies and their gradient, by slices of the vocabulary, without holding `[tokens, vocab]`.
//!
//! The maximum, sum and mean of each token's softmax are updated slice by slice, so each slice of logits is read once.
//! Log-probs depend on the states only through `logits = h E_u^T / T`, so the gradient has a closed form per token:
//! with `g = d loss / d log_prob`, `e = d loss / d H`, `p = softmax(logits)` and its entropy `H`,
//!
//! ```text
//! d loss / d logits = g (onehot(target) - p) - e p (ln p + H)
//! d loss / d h      = (d loss / d logits) E_u / T
//! d loss / d E_u    = (d loss / d logits)^T h / T
//! ```
//!
//! Logits that fit into a limit are saved from the forward to the backward pass, and the others computed again. Of at most
//! [`InternalPolicy::states_at_once`] states all are saved.

use std::ops::Range;

use burn::tensor::{DType, Tensor, backend::Backend};

use super::internal_policy::{InternalPolicy, logits_of};
use super::online_softmax::{LogitGradient, OnlineSoftmax};
use crate::kernels::host::is_host_f32;
use crate::kernels::{add_product, matmul};
use crate::profile::{Part, timed};

/// The largest number of tokens whose logits are computed together.
const TOKENS_AT_ONCE: usize = 4096;
/// Slices of the vocabulary that are wider have a multiple of this width.
const WIDTH_STEP: usize = 64;
/// The largest number of logits that are saved for the backward pass instead of recomputed: 128 MiB of f32, or half the size of an
/// unembedding `[vocab, hidden]` if that is more. It is then read, and its gradient added to, once for at least `hidden / 2` states.
pub fn logits_saved(vocab: usize, hidden: usize) -> usize {
    (1 << 25).max(vocab * hidden / 2)
}

/// The log-probs of given tokens under a policy, and the policy's entropies.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenStats {
    /// Log-probabilities of the given tokens, in nats, at the policy's temperature.
    pub log_probs: Vec<f32>,
    /// Entropies of the policy at those positions, in nats, at the same temperature.
    pub entropy: Vec<f32>,
}

/// The derivatives of a loss with respect to [`TokenStats`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenDerivatives {
    /// With respect to the log-probs.
    pub log_probs: Vec<f32>,
    /// With respect to the entropies; `None` if the loss does not depend on them.
    pub entropy: Option<Vec<f32>>,
}

/// Gradients of a loss of a policy's log-probs and entropies.
#[derive(Debug, Clone)]
pub struct PolicyGradient<B: Backend> {
    /// With respect to the states, `[tokens, hidden]`.
    pub states: Tensor<B, 2>,
    /// With respect to the unembedding, `[vocab, hidden]`.
    pub unembedding: Tensor<B, 2>,
}

/// A gradient with respect to the unembedding, added up.
struct UnembeddingSum<B: Backend> {
    sum: Tensor<B, 2>,
    is_zero: bool,
}

/// A forward pass of a policy on some tokens, with what its backward pass needs.
pub struct PolicyForward<'a, B: Backend> {
    policy: &'a InternalPolicy<B>,
    targets: &'a [u32],
    /// The results.
    pub stats: TokenStats,
    blocks: Vec<TokenBlock<B>>,
}

/// A block of tokens and the softmax of each.
struct TokenBlock<B: Backend> {
    rows: Range<usize>,
    softmax: OnlineSoftmax<B>,
    /// Logits of the first slices of the vocabulary; those of the others are recomputed.
    saved: Vec<Tensor<B, 2>>,
}

impl<B: Backend> InternalPolicy<B> {
    /// Log-probs of `targets` (one per state) and the entropies, in one pass.
    ///
    /// # Panics
    /// If there are not as many targets as states, or a target is outside the vocabulary.
    pub fn token_stats(&self, targets: &[u32]) -> TokenStats {
        self.check_targets(targets);
        self.forward_with(targets, 0).stats
    }

    /// The entropies of the policy at each state, in nats.
    pub fn entropy(&self) -> Vec<f32> {
        timed::<B, _>(Part::Unembedding, &self.states.device(), || {
            self.blocks().flat_map(|rows| self.online_softmax(rows, None, &mut 0).softmax.entropy()).collect()
        })
    }

    /// The number of states, at least 1, whose logits are all saved from the forward to the backward pass. No limit on devices other
    /// than the CPU, where products of few states cost more than computing logits again.
    pub fn states_at_once(&self) -> usize {
        let [vocab, hidden] = self.unembedding.dims();
        if is_host_f32(&self.states) { (logits_saved(vocab, hidden) / vocab.max(1)).max(1) } else { usize::MAX }
    }

    /// The policy of a range of the states.
    pub fn of_states(&self, rows: Range<usize>) -> Self {
        if rows == (0..self.states.dims()[0]) {
            return self.clone();
        }
        Self { states: self.states.clone().slice([rows]), ..self.clone() }
    }

    /// [`Self::token_stats`] that can be followed by a backward pass.
    ///
    /// # Panics
    /// As [`Self::token_stats`].
    pub fn forward<'a>(&'a self, targets: &'a [u32]) -> PolicyForward<'a, B> {
        self.check_targets(targets);
        let [vocab, hidden] = self.unembedding.dims();
        self.forward_with(targets, logits_saved(vocab, hidden))
    }

    fn forward_with<'a>(&'a self, targets: &'a [u32], logits_saved: usize) -> PolicyForward<'a, B> {
        timed::<B, _>(Part::Unembedding, &self.states.device(), || self.run_forward(targets, logits_saved))
    }

    fn run_forward<'a>(&'a self, targets: &'a [u32], mut logits_saved: usize) -> PolicyForward<'a, B> {
        let mut stats = TokenStats::default();
        let blocks = self.blocks().map(|rows| {
            let block = self.online_softmax(rows.clone(), Some(&targets[rows]), &mut logits_saved);
            stats.log_probs.extend(block.softmax.log_probs());
            stats.entropy.extend(block.softmax.entropy());
            block
        });
        let blocks = blocks.collect();
        PolicyForward { policy: self, targets, stats, blocks }
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<B> {
        let tokens = self.states.dims()[0];
        (0..tokens).step_by(TOKENS_AT_ONCE).map(move |start| start..(start + TOKENS_AT_ONCE).min(tokens))
    }

    /// Slices of the vocabulary whose logits of `tokens` tokens fit into `logits_at_once`.
    fn slices(&self, tokens: usize) -> impl Iterator<Item = Range<usize>> + use<B> {
        let vocab = self.unembedding.dims()[0];
        let most = (self.logits_at_once / tokens.max(1)).max(1);
        // All slices have about the same width, a multiple of what vectors of any device load.
        let step = if most < WIDTH_STEP { 1 } else { WIDTH_STEP };
        let count = vocab.div_ceil(most / step * step).max(1);
        let width = vocab.div_ceil(count).max(1).next_multiple_of(step);
        (0..vocab).step_by(width).map(move |start| start..(start + width).min(vocab))
    }

    /// `save`: how many logits may be saved, from which those of this block are taken.
    fn online_softmax(&self, rows: Range<usize>, targets: Option<&[u32]>, save: &mut usize) -> TokenBlock<B> {
        let states = self.states.clone().slice([rows.clone()]);
        let mut softmax = OnlineSoftmax::new(rows.len(), self.temperature, &states);
        let mut saved = Vec::new();
        for slice in self.slices(rows.len()) {
            let logits = self.slice_logits(&states, &slice);
            let logits = softmax.read(logits, slice.start, targets);
            // Those of the first slices are saved: once one does not fit, no later one is.
            match save.checked_sub(rows.len() * slice.len()) {
                Some(left) => {
                    *save = left;
                    saved.push(logits);
                }
                None => *save = 0,
            }
        }
        TokenBlock { rows, softmax, saved }
    }

    /// `h E_u^T` of a slice of the vocabulary, not divided by the temperature, `[rows, slice]`.
    fn slice_logits(&self, states: &Tensor<B, 2>, slice: &Range<usize>) -> Tensor<B, 2> {
        logits_of(states.clone(), self.unembedding.clone().slice([slice.clone()]))
    }

    pub(crate) fn check_targets(&self, targets: &[u32]) {
        assert_eq!(targets.len(), self.states.dims()[0], "one target per state");
        let vocab = self.unembedding.dims()[0];
        assert!(targets.iter().all(|target| (*target as usize) < vocab), "a target is outside the vocabulary");
    }
}

impl<B: Backend> UnembeddingSum<B> {
    /// Adds a product to the rows from `first` on.
    fn add(&mut self, first: usize, lhs: Tensor<B, 2>, rhs: Tensor<B, 2>) {
        // Moved out, so that it is changed in place.
        let sum = std::mem::replace(&mut self.sum, Tensor::empty([0, 0], &lhs.device()));
        self.sum = add_product(sum, first, lhs, rhs, self.is_zero);
    }
}

impl<B: Backend> PolicyForward<'_, B> {
    /// Gradients of a loss with these derivatives with respect to the log-probs and the entropies.
    ///
    /// # Panics
    /// If there are not as many derivatives as targets.
    pub fn backward(self, derivatives: &TokenDerivatives) -> PolicyGradient<B> {
        self.backward_onto(derivatives, None)
    }

    /// [`Self::backward`], with the gradient with respect to the unembedding added to `unembedding`, `[vocab, hidden]` in f32; `None`
    /// for 0.
    ///
    /// # Panics
    /// As [`Self::backward`].
    pub fn backward_onto(self, derivatives: &TokenDerivatives, unembedding: Option<Tensor<B, 2>>) -> PolicyGradient<B> {
        let is_zero = unembedding.is_none();
        let sum = unembedding.unwrap_or_else(|| self.policy.unembedding.zeros_like().cast(DType::F32));
        let mut unembedding = UnembeddingSum { sum, is_zero };
        let states = self.timed_backward(derivatives, Some(&mut unembedding));
        PolicyGradient { states, unembedding: unembedding.sum }
    }

    /// [`Self::backward`] with respect to the states alone, `[tokens, hidden]`, for a frozen unembedding.
    ///
    /// # Panics
    /// As [`Self::backward`].
    pub fn backward_states(self, derivatives: &TokenDerivatives) -> Tensor<B, 2> {
        self.timed_backward(derivatives, None)
    }

    fn timed_backward(
        self,
        derivatives: &TokenDerivatives,
        unembedding: Option<&mut UnembeddingSum<B>>,
    ) -> Tensor<B, 2> {
        let device = self.policy.states.device();
        timed::<B, _>(Part::Unembedding, &device, || self.run_backward(derivatives, unembedding))
    }

    /// The gradient with respect to the states; that with respect to the unembedding is added to `unembedding`, if it is wanted.
    fn run_backward(
        self,
        derivatives: &TokenDerivatives,
        mut unembedding: Option<&mut UnembeddingSum<B>>,
    ) -> Tensor<B, 2> {
        let Self { policy, targets, blocks, .. } = self;
        assert_eq!(targets.len(), derivatives.log_probs.len(), "one derivative per target");
        assert!(derivatives.entropy.as_ref().is_none_or(|d| d.len() == targets.len()), "one derivative per entropy");
        let mut d_states = Vec::with_capacity(blocks.len());
        for TokenBlock { rows, softmax, mut saved } in blocks {
            let states = policy.states.clone().slice([rows.clone()]);
            let gradient = LogitGradient {
                softmax: &softmax,
                targets: &targets[rows.clone()],
                log_probs: &derivatives.log_probs[rows.clone()],
                entropy: derivatives.entropy.as_ref().map(|d| &d[rows.clone()]),
            };
            let mut d_block: Option<Tensor<B, 2>> = None;
            saved.reverse();
            for slice in policy.slices(rows.len()) {
                let logits = saved.pop().unwrap_or_else(|| policy.slice_logits(&states, &slice));
                let d_logits = gradient.of(logits, slice.start).cast(states.dtype());
                let part = matmul(d_logits.clone(), policy.unembedding.clone().slice([slice.clone()]), DType::F32);
                d_block = Some(match d_block {
                    Some(sum) => sum + part,
                    None => part,
                });
                if let Some(unembedding) = &mut unembedding {
                    unembedding.add(slice.start, d_logits.transpose(), states.clone());
                }
            }
            if let Some(unembedding) = &mut unembedding {
                unembedding.is_zero = false;
            }
            d_states.extend(d_block);
        }
        Tensor::cat(d_states, 0)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Flex, NdArray};
    use burn::tensor::TensorData;

    use super::*;

    const TOKENS: usize = 7;
    const HIDDEN: usize = 3;
    const VOCAB: usize = 5;
    const TARGETS: [u32; TOKENS] = [0, 4, 2, 2, 1, 3, 0];
    const WEIGHTS: [f32; TOKENS] = [1.0, -0.5, 0.25, 2.0, 0.0, -1.5, 0.75];
    const TEMPERATURE: f64 = 0.7;

    /// Irregular numbers.
    fn numbers(count: usize, seed: f64) -> Vec<f64> {
        (0..count).map(|i| ((i as f64 + seed) * 12.9898).sin() * 1.5).collect()
    }

    /// A policy that holds the logits of `rows` states at a time.
    fn policy<B: Backend>(states: &[f64], unembedding: &[f64], rows: usize) -> InternalPolicy<B> {
        let device = Default::default();
        let matrix = |values: &[f64], shape| Tensor::from_data(TensorData::new(values.to_vec(), shape), &device);
        let policy = InternalPolicy::new(matrix(states, [TOKENS, HIDDEN]), matrix(unembedding, [VOCAB, HIDDEN]));
        InternalPolicy { logits_at_once: rows * VOCAB, ..policy.with_temperature(TEMPERATURE) }
    }

    /// Log-probs and entropies in f64, one state at a time.
    fn reference(states: &[f64], unembedding: &[f64]) -> Vec<(f64, f64)> {
        states
            .chunks(HIDDEN)
            .zip(TARGETS)
            .map(|(state, target)| {
                let dot = |row: &[f64]| row.iter().zip(state).map(|(a, b)| a * b).sum::<f64>() / TEMPERATURE;
                let logits: Vec<f64> = unembedding.chunks(HIDDEN).map(dot).collect();
                let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                let entropy = logits.iter().map(|logit| -(logit - log_sum).exp() * (logit - log_sum)).sum();
                (logits[target as usize] - log_sum, entropy)
            })
            .collect()
    }

    #[test]
    fn saved_and_recomputed_logits_give_the_same_bits() {
        let policy = policy::<Flex>(&numbers(TOKENS * HIDDEN, 0.3), &numbers(VOCAB * HIDDEN, 7.7), 2);
        let derivatives = TokenDerivatives { log_probs: WEIGHTS.to_vec(), entropy: Some(vec![0.3; TOKENS]) };
        let [saved, recomputed] = [usize::MAX, 0].map(|saved| {
            let forward = policy.forward_with(&TARGETS, saved);
            assert_eq!(forward.stats, policy.token_stats(&TARGETS));
            let gradient = forward.backward(&derivatives);
            (gradient.states.into_data(), gradient.unembedding.into_data())
        });
        assert_eq!(saved, recomputed);
    }

    #[test]
    fn slices_cover_the_vocabulary_and_fit() {
        for (vocab, tokens, at_once) in
            [(151_936, 4000, 1 << 25), (151_936, 4096, 1 << 23), (257, 64, 1 << 23), (633, 37, 7807)]
        {
            let states = Tensor::<Flex, 2>::zeros([tokens, 1], &Default::default());
            let unembedding = Tensor::zeros([vocab, 1], &Default::default());
            let policy = InternalPolicy { logits_at_once: at_once, ..InternalPolicy::new(states, unembedding) };
            let slices: Vec<_> = policy.slices(tokens).collect();
            assert!(slices.iter().all(|slice| slice.len() * tokens <= at_once), "{vocab} x {tokens}");
            assert_eq!(slices.iter().map(ExactSizeIterator::len).sum::<usize>(), vocab);
            assert!(slices.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(slices[..slices.len() - 1].iter().all(|slice| slice.len() < 64 || slice.len() % 64 == 0));
        }
    }

    #[test]
    fn log_probs_and_entropies_match_f64_for_every_chunk_size() {
        let (states, unembedding) = (numbers(TOKENS * HIDDEN, 0.3), numbers(VOCAB * HIDDEN, 7.7));
        check_stats::<Flex>(&states, &unembedding);
        check_stats::<NdArray>(&states, &unembedding);
    }

    fn check_stats<B: Backend>(states: &[f64], unembedding: &[f64]) {
        for rows in [1, 2, 3, 7, 100] {
            let policy = policy::<B>(states, unembedding, rows);
            let stats = policy.token_stats(&TARGETS);
            assert_eq!(stats.entropy, policy.entropy());
            for (row, (log_prob, entropy)) in reference(states, unembedding).into_iter().enumerate() {
                assert!((f64::from(stats.log_probs[row]) - log_prob).abs() < 1e-5);
                assert!((f64::from(stats.entropy[row]) - entropy).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn entropy_stays_within_its_bounds() {
        let device = Default::default();
        let states = Tensor::<Flex, 2>::from_floats([[0.0, 0.0], [1000.0, 0.0], [0.3, -0.2]], &device);
        let unembedding = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], &device);
        let entropy = InternalPolicy::new(states, unembedding).entropy();
        assert!(entropy.iter().all(|h| (0.0..=3.0_f32.ln() + 1e-6).contains(h)), "{entropy:?}");
        assert!((entropy[0] - 3.0_f32.ln()).abs() < 1e-6 && entropy[1] == 0.0, "{entropy:?}");
    }

    #[test]
    fn the_gradient_matches_finite_differences_for_every_chunk_size() {
        let (states, unembedding) = (numbers(TOKENS * HIDDEN, 0.3), numbers(VOCAB * HIDDEN, 7.7));
        let entropy_weights: Vec<f32> = WEIGHTS.iter().map(|d| 0.4 - d).collect();
        for with_entropy in [false, true] {
            let entropy_weights = with_entropy.then(|| entropy_weights.clone());
            check_gradient::<Flex>(&states, &unembedding, entropy_weights.clone());
            check_gradient::<NdArray>(&states, &unembedding, entropy_weights);
        }
    }

    fn check_gradient<B: Backend>(states: &[f64], unembedding: &[f64], entropy_weights: Option<Vec<f32>>) {
        let loss = |states: &[f64], unembedding: &[f64]| -> f64 {
            let weights = entropy_weights.clone().unwrap_or_else(|| vec![0.0; TOKENS]);
            let terms = reference(states, unembedding).into_iter().zip(WEIGHTS).zip(weights);
            terms.map(|(((log_prob, entropy), d), e)| f64::from(d) * log_prob + f64::from(e) * entropy).sum()
        };
        let step = 1e-6;
        let difference = |values: &[f64], index: usize, loss: &dyn Fn(&[f64]) -> f64| {
            let moved = |by: f64| {
                let mut values = values.to_vec();
                values[index] += by;
                loss(&values)
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        };
        let derivatives = TokenDerivatives { log_probs: WEIGHTS.to_vec(), entropy: entropy_weights.clone() };
        for rows in [1, 3, 100] {
            let policy = policy::<B>(states, unembedding, rows);
            let gradient = policy.forward(&TARGETS).backward(&derivatives);
            for (index, ours) in gradient.states.into_data().iter::<f64>().enumerate() {
                let expected = difference(states, index, &|states| loss(states, unembedding));
                assert!((ours - expected).abs() < 1e-4, "state {index}: {ours} for {expected}");
            }
            for (index, ours) in gradient.unembedding.into_data().iter::<f64>().enumerate() {
                let expected = difference(unembedding, index, &|unembedding| loss(states, unembedding));
                assert!((ours - expected).abs() < 1e-4, "unembedding {index}: {ours} for {expected}");
            }
        }
    }
}
