//! The chunked unembedding: log-probs, entropies and their gradient without ever holding `[tokens, vocab]`.
//!
//! Log-probs depend on the states only through `logits = h E_u^T / T`, so the gradient has a closed form per token:
//! with `g = d loss / d log_prob`, `e = d loss / d H`, `p = softmax(logits)` and its entropy `H`,
//!
//! ```text
//! d loss / d logits = g (onehot(target) - p) - e p (ln p + H)
//! d loss / d h      = (d loss / d logits) E_u / T
//! d loss / d E_u    = (d loss / d logits)^T h / T
//! ```

use std::ops::Range;

use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData, backend::Backend};

use crate::InternalPolicy;
use crate::policy::token_tensor;

/// What a policy says of each given token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenStats {
    /// Log-probabilities of the given tokens, in nats, at the policy's temperature.
    pub log_probs: Vec<f32>,
    /// Entropies of the policy at those places, in nats, at the same temperature.
    pub entropy: Vec<f32>,
}

/// The derivatives of a loss with respect to what a policy says of each given token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenDerivatives {
    /// With respect to the log-probs.
    pub log_probs: Vec<f32>,
    /// With respect to the entropies; nothing where the loss does not depend on them.
    pub entropy: Option<Vec<f32>>,
}

/// Gradients of a loss that depends on a policy's log-probs and entropies.
#[derive(Debug, Clone)]
pub struct PolicyGradient<B: Backend> {
    /// With respect to the states, `[tokens, hidden]`.
    pub states: Tensor<B, 2>,
    /// With respect to the unembedding, `[vocab, hidden]`.
    pub unembedding: Tensor<B, 2>,
}

impl<B: Backend> InternalPolicy<B> {
    /// Log-probs of `targets` (one per state) and the entropies, from one pass.
    ///
    /// # Panics
    /// If there are not as many targets as states, or a target is outside the vocabulary.
    pub fn token_stats(&self, targets: &[u32]) -> TokenStats {
        self.check_targets(targets);
        let (mut log_probs, mut entropy) = (Vec::new(), Vec::new());
        for rows in self.chunks() {
            let chunk = Chunk::new(self, rows.clone());
            let index = token_tensor(&targets[rows], &self.states.device()).unsqueeze_dim(1);
            log_probs.push((chunk.shifted.clone().gather(1, index) - chunk.log_sum.clone()).flatten::<1>(0, 1));
            entropy.push(chunk.entropy());
        }
        TokenStats { log_probs: read(log_probs), entropy: read(entropy) }
    }

    /// The entropies of the policy at each state, in nats.
    pub fn entropy(&self) -> Vec<f32> {
        read(self.chunks().map(|rows| Chunk::new(self, rows).entropy()).collect())
    }

    /// Gradients of a loss with these derivatives with respect to the log-probs of `targets` and the entropies.
    ///
    /// # Panics
    /// If there are not as many targets and derivatives as states, or a target is outside the vocabulary.
    pub fn backward(&self, targets: &[u32], derivatives: &TokenDerivatives) -> PolicyGradient<B> {
        self.check_targets(targets);
        assert_eq!(targets.len(), derivatives.log_probs.len(), "one derivative per target");
        assert!(derivatives.entropy.as_ref().is_none_or(|d| d.len() == targets.len()), "one derivative per entropy");
        let device = self.states.device();
        let mut d_states = Vec::new();
        let mut d_unembedding: Option<Tensor<B, 2>> = None;
        for rows in self.chunks() {
            let states = self.states.clone().slice([rows.clone()]);
            let chunk = Chunk::new(self, rows.clone());
            let index = token_tensor(&targets[rows.clone()], &device).unsqueeze_dim(1);
            let column = |values: &[f32]| {
                let scaled: Vec<f32> = values[rows.clone()].iter().map(|d| d / self.temperature as f32).collect();
                Tensor::<B, 2>::from_data(TensorData::new(scaled, [rows.len(), 1]), &device)
            };
            let d = column(&derivatives.log_probs);
            // What every logit of a row shares: -p g, and -p e (ln p + H).
            let common = match &derivatives.entropy {
                None => chunk.exp * (d.clone() / chunk.sum).neg(),
                Some(d_entropy) => {
                    let e = column(d_entropy);
                    let mean = mean(chunk.exp.clone(), chunk.shifted.clone(), chunk.sum.clone());
                    let entropy = chunk.log_sum.clone() - mean;
                    let from_entropy = (chunk.shifted - chunk.log_sum + entropy) * e;
                    (chunk.exp / chunk.sum).neg() * (from_entropy + d.clone())
                }
            };
            let d_logits = common.scatter(1, index, d, IndexingUpdateOp::Add).cast(states.dtype());
            d_states.push(d_logits.clone().matmul(self.unembedding.clone()));
            let part = d_logits.transpose().matmul(states);
            d_unembedding = Some(match d_unembedding {
                Some(sum) => sum + part,
                None => part,
            });
        }
        PolicyGradient {
            states: Tensor::cat(d_states, 0),
            unembedding: d_unembedding.unwrap_or_else(|| self.unembedding.zeros_like()),
        }
    }

    /// Ranges of states whose logits fit into the budget, in order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<B> {
        let [tokens, _] = self.states.dims();
        let [vocab, _] = self.unembedding.dims();
        let rows = (self.logits_at_once / vocab.max(1)).max(1);
        (0..tokens).step_by(rows).map(move |start| start..(start + rows).min(tokens))
    }

    /// `h E_u^T / T` of a few states, in f32, `[rows, vocab]`.
    pub(crate) fn logits(&self, rows: Range<usize>) -> Tensor<B, 2> {
        let logits = self.states.clone().slice([rows]).matmul(self.unembedding.clone().transpose());
        let logits = logits.cast(DType::F32);
        if self.temperature == 1.0 { logits } else { logits / self.temperature }
    }

    pub(crate) fn check_targets(&self, targets: &[u32]) {
        assert_eq!(targets.len(), self.states.dims()[0], "one target per state");
        let vocab = self.unembedding.dims()[0];
        assert!(targets.iter().all(|target| (*target as usize) < vocab), "a target is outside the vocabulary");
    }
}

/// The softmax of a chunk's logits, in the pieces its log and its gradient need.
pub(crate) struct Chunk<B: Backend> {
    /// `logits - max`, `[rows, vocab]`.
    pub(crate) shifted: Tensor<B, 2>,
    /// `exp(shifted)`.
    exp: Tensor<B, 2>,
    /// Row sums of `exp`, `[rows, 1]`.
    sum: Tensor<B, 2>,
    /// Their logarithms.
    pub(crate) log_sum: Tensor<B, 2>,
}

impl<B: Backend> Chunk<B> {
    pub(crate) fn new(policy: &InternalPolicy<B>, rows: Range<usize>) -> Self {
        let logits = policy.logits(rows);
        let shifted = logits.clone() - logits.max_dim(1);
        let exp = shifted.clone().exp();
        let sum = exp.clone().sum_dim(1);
        let log_sum = sum.clone().log();
        Self { shifted, exp, sum, log_sum }
    }

    /// Log-probs of every token, `[rows, vocab]`.
    pub(crate) fn log_probs(&self) -> Tensor<B, 2> {
        self.shifted.clone() - self.log_sum.clone()
    }

    /// `H = log sum - E[shifted]`, clamped at 0 where rounding would make it negative.
    pub(crate) fn entropy(self) -> Tensor<B, 1> {
        (self.log_sum - mean(self.exp, self.shifted, self.sum)).clamp_min(0.0).flatten(0, 1)
    }
}

/// `E[shifted]` under the softmax, `[rows, 1]`.
fn mean<B: Backend>(exp: Tensor<B, 2>, shifted: Tensor<B, 2>, sum: Tensor<B, 2>) -> Tensor<B, 2> {
    (exp * shifted).sum_dim(1) / sum
}

/// Reads chunks back in one transfer.
fn read<B: Backend>(chunks: Vec<Tensor<B, 1>>) -> Vec<f32> {
    if chunks.is_empty() { Vec::new() } else { Tensor::cat(chunks, 0).into_data().iter::<f32>().collect() }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    const TOKENS: usize = 7;
    const HIDDEN: usize = 3;
    const VOCAB: usize = 5;
    const TARGETS: [u32; TOKENS] = [0, 4, 2, 2, 1, 3, 0];
    const WEIGHTS: [f32; TOKENS] = [1.0, -0.5, 0.25, 2.0, 0.0, -1.5, 0.75];
    const TEMPERATURE: f64 = 0.7;

    /// Numbers without a pattern.
    fn numbers(count: usize, seed: f64) -> Vec<f64> {
        (0..count).map(|i| ((i as f64 + seed) * 12.9898).sin() * 1.5).collect()
    }

    /// A policy that holds the logits of `rows` states at once.
    fn policy(states: &[f64], unembedding: &[f64], rows: usize) -> InternalPolicy<Flex> {
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
    fn log_probs_and_entropies_are_exact_whatever_the_chunk() {
        let (states, unembedding) = (numbers(TOKENS * HIDDEN, 0.3), numbers(VOCAB * HIDDEN, 7.7));
        for rows in [1, 2, 3, 7, 100] {
            let policy = policy(&states, &unembedding, rows);
            let stats = policy.token_stats(&TARGETS);
            assert_eq!(stats.entropy, policy.entropy());
            for (row, (log_prob, entropy)) in reference(&states, &unembedding).into_iter().enumerate() {
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
    fn the_gradient_is_that_of_finite_differences_whatever_the_chunk() {
        let (states, unembedding) = (numbers(TOKENS * HIDDEN, 0.3), numbers(VOCAB * HIDDEN, 7.7));
        let entropy_weights: Vec<f32> = WEIGHTS.iter().map(|d| 0.4 - d).collect();
        // The loss of the log-probs alone is the case of entropies that weigh nothing.
        for with_entropy in [false, true] {
            check_gradient(&states, &unembedding, with_entropy.then(|| entropy_weights.clone()));
        }
    }

    fn check_gradient(states: &[f64], unembedding: &[f64], entropy_weights: Option<Vec<f32>>) {
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
            let gradient = policy(states, unembedding, rows).backward(&TARGETS, &derivatives);
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
