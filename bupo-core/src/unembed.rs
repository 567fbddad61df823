//! The chunked unembedding: log-probs, entropies and their gradient without ever holding `[tokens, vocab]`.
//!
//! Log-probs depend on the states only through `logits = h E_u^T / T`, so the gradient has a closed form per token:
//! with `g = d loss / d log_prob` and `p = softmax(logits)`,
//!
//! ```text
//! d loss / d logits = g (onehot(target) - p)
//! d loss / d h      = (d loss / d logits) E_u / T
//! d loss / d E_u    = (d loss / d logits)^T h / T
//! ```

use std::ops::Range;

use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData, backend::Backend};

use crate::InternalPolicy;
use crate::policy::token_tensor;

/// How many logits are held at once: 32 MiB of f32.
const LOGITS_AT_ONCE: usize = 1 << 23;

/// What a policy says of each given token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenStats {
    /// Log-probabilities of the given tokens, in nats, at the policy's temperature.
    pub log_probs: Vec<f32>,
    /// Entropies of the policy at those places, in nats, at the same temperature.
    pub entropy: Vec<f32>,
}

/// Gradients of a loss that depends on a policy's log-probs.
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

    /// Gradients of a loss whose derivatives with respect to the log-probs of `targets` are `d_log_probs`.
    ///
    /// # Panics
    /// If there are not as many targets and derivatives as states, or a target is outside the vocabulary.
    pub fn backward(&self, targets: &[u32], d_log_probs: &[f32]) -> PolicyGradient<B> {
        self.check_targets(targets);
        assert_eq!(targets.len(), d_log_probs.len(), "one derivative per target");
        let device = self.states.device();
        let mut d_states = Vec::new();
        let mut d_unembedding: Option<Tensor<B, 2>> = None;
        for rows in self.chunks() {
            let states = self.states.clone().slice([rows.clone()]);
            let chunk = Chunk::new(self, rows.clone());
            let index = token_tensor(&targets[rows.clone()], &device).unsqueeze_dim(1);
            let scaled: Vec<f32> = d_log_probs[rows.clone()].iter().map(|d| d / self.temperature as f32).collect();
            let d = Tensor::<B, 2>::from_data(TensorData::new(scaled, [rows.len(), 1]), &device);
            let d_logits = (chunk.exp * (d.clone() / chunk.sum).neg())
                .scatter(1, index, d, IndexingUpdateOp::Add)
                .cast(states.dtype());
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
        let rows = (LOGITS_AT_ONCE / vocab.max(1)).max(1);
        (0..tokens).step_by(rows).map(move |start| start..(start + rows).min(tokens))
    }

    /// `h E_u^T / T` of a few states, in f32, `[rows, vocab]`.
    pub(crate) fn logits(&self, rows: Range<usize>) -> Tensor<B, 2> {
        let logits = self.states.clone().slice([rows]).matmul(self.unembedding.clone().transpose());
        let logits = logits.cast(DType::F32);
        if self.temperature == 1.0 { logits } else { logits / self.temperature }
    }

    fn check_targets(&self, targets: &[u32]) {
        assert_eq!(targets.len(), self.states.dims()[0], "one target per state");
        let vocab = self.unembedding.dims()[0];
        assert!(targets.iter().all(|target| (*target as usize) < vocab), "a target is outside the vocabulary");
    }
}

/// The softmax of a chunk's logits, in the pieces its log and its gradient need.
struct Chunk<B: Backend> {
    /// `logits - max`, `[rows, vocab]`.
    shifted: Tensor<B, 2>,
    /// `exp(shifted)`.
    exp: Tensor<B, 2>,
    /// Row sums of `exp`, `[rows, 1]`.
    sum: Tensor<B, 2>,
    /// Their logarithms.
    log_sum: Tensor<B, 2>,
}

impl<B: Backend> Chunk<B> {
    fn new(policy: &InternalPolicy<B>, rows: Range<usize>) -> Self {
        let logits = policy.logits(rows);
        let shifted = logits.clone() - logits.max_dim(1);
        let exp = shifted.clone().exp();
        let sum = exp.clone().sum_dim(1);
        let log_sum = sum.clone().log();
        Self { shifted, exp, sum, log_sum }
    }

    /// `H = log sum - E[shifted]`, clamped at 0 where rounding would make it negative.
    fn entropy(self) -> Tensor<B, 1> {
        let mean = (self.exp * self.shifted).sum_dim(1) / self.sum;
        (self.log_sum - mean).clamp_min(0.0).flatten(0, 1)
    }
}

/// Reads chunks back in one transfer.
fn read<B: Backend>(chunks: Vec<Tensor<B, 1>>) -> Vec<f32> {
    if chunks.is_empty() { Vec::new() } else { Tensor::cat(chunks, 0).into_data().iter::<f32>().collect() }
}
