//! A divergence of a policy from the full policy, as a loss: its values and its gradients.
//!
//! With z and u the logits of the policy p and of the full policy q, at the same temperature T, and m = (p + q) / 2:
//!
//! ```text
//! d KL(p || q) / dz = p (ln p - ln q - KL(p || q))         d KL(p || q) / du = q - p
//! d KL(q || p) / dz = p - q                                d KL(q || p) / du = q (ln q - ln p - KL(q || p))
//! d JS / dz = p (ln p - ln m - KL(p || m)) / 2             d JS / du = q (ln q - ln m - KL(q || m)) / 2
//! ```

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::internal_policy::InternalPolicy;
use super::log_probs::PolicyGradient;
use crate::kernels::matmul;
use crate::profile::{Part, timed};

/// A divergence of a policy from the full policy, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divergence {
    /// KL(policy || full).
    Kl,
    /// KL(full || policy).
    ReverseKl,
    /// The Jensen-Shannon divergence.
    Js,
}

/// A loss that is a weighted sum of divergences over states.
#[derive(Debug, Clone)]
pub struct Alignment<B: Backend> {
    /// The divergence at each state, not weighted.
    pub values: Vec<f32>,
    /// The loss's gradients with respect to the policy's states and, through its logits, the unembedding.
    pub policy: PolicyGradient<B>,
    /// The same through the full policy's logits; `None` if it is detached.
    pub full: Option<PolicyGradient<B>>,
}

/// Values `[rows, 1]`, and the derivatives by both policies' logits `[rows, vocab]`, the temperature aside.
struct Terms<B: Backend> {
    values: Tensor<B, 2>,
    d_policy: Tensor<B, 2>,
    d_full: Tensor<B, 2>,
}

impl Divergence {
    fn of<B: Backend>(self, logs: Tensor<B, 2>, full_logs: Tensor<B, 2>) -> Terms<B> {
        let (probs, full_probs) = (logs.clone().exp(), full_logs.clone().exp());
        // The expectation of a difference of logarithms, and its derivative by the logits of its first policy.
        let kl = |probs: &Tensor<B, 2>, difference: Tensor<B, 2>| {
            let kl = (probs.clone() * difference.clone()).sum_dim(1);
            (kl.clone(), probs.clone() * (difference - kl))
        };
        match self {
            Self::Kl => {
                let (values, d_policy) = kl(&probs, logs - full_logs);
                Terms { values, d_policy, d_full: full_probs - probs }
            }
            Self::ReverseKl => {
                let (values, d_full) = kl(&full_probs, full_logs - logs);
                Terms { values, d_policy: probs - full_probs, d_full }
            }
            Self::Js => {
                let mean = ((probs.clone() + full_probs.clone()) / 2.0).clamp_min(f32::MIN_POSITIVE).log();
                let (of_policy, d_policy) = kl(&probs, logs - mean.clone());
                let (of_full, d_full) = kl(&full_probs, full_logs - mean);
                Terms { values: (of_policy + of_full) / 2.0, d_policy: d_policy / 2.0, d_full: d_full / 2.0 }
            }
        }
    }
}

impl<B: Backend> InternalPolicy<B> {
    /// The loss that is the sum over states of `weights` times the divergence from `full`, which has as many states. The full
    /// policy is a constant in it if it is `detached`. Whole rows of logits are held for a chunk of states at a time.
    ///
    /// # Panics
    /// If there are not as many weights as states, no states, or the two policies differ in their number of states.
    pub fn align(&self, full: &Self, divergence: Divergence, weights: &[f32], detached: bool) -> Alignment<B> {
        let device = self.states.device();
        timed::<B, _>(Part::Unembedding, &device, || self.run_align(full, divergence, weights, detached))
    }

    /// The losses of several policies, each the mean over states of KL(full || policy) with the full policy as a constant, and their
    /// gradients with respect to the policies' states. The full policy's logits are computed once.
    ///
    /// # Panics
    /// If the policies differ in their number of states.
    pub fn reverse_kls(policies: &[Self], full: &Self) -> Vec<(f64, Tensor<B, 2>)> {
        let device = full.states.device();
        timed::<B, _>(Part::Unembedding, &device, || Self::run_reverse_kls(policies, full))
    }

    fn run_reverse_kls(policies: &[Self], full: &Self) -> Vec<(f64, Tensor<B, 2>)> {
        let [states, _] = full.states.dims();
        let mut sums = vec![(0.0, Vec::new()); policies.len()];
        for rows in full.chunks() {
            let full_logs = log_softmax(full.logits(rows.clone()), 1);
            let full_probs = full_logs.clone().exp();
            for (policy, (value, d_states)) in policies.iter().zip(&mut sums) {
                let logs = log_softmax(policy.logits(rows.clone()), 1);
                let kl = (full_probs.clone() * (full_logs.clone() - logs.clone())).sum_dim(1);
                *value += kl.into_data().iter::<f32>().map(f64::from).sum::<f64>() / states as f64;
                let d_logits = (logs.exp() - full_probs.clone()) / (policy.temperature * states as f64);
                d_states.push(policy.states_gradient(d_logits));
            }
        }
        sums.into_iter().map(|(value, d_states)| (value, Tensor::cat(d_states, 0))).collect()
    }

    fn run_align(&self, full: &Self, divergence: Divergence, weights: &[f32], detached: bool) -> Alignment<B> {
        let ([states, _], [of_full, _]) = (self.states.dims(), full.states.dims());
        assert!(states == of_full && states == weights.len(), "one state of both policies per weight");
        let mut values = Vec::with_capacity(states);
        let (mut policy, mut of_full) = (Sum::new(self), Sum::new(full));
        for rows in self.chunks() {
            let logs = |policy: &Self| log_softmax(policy.logits(rows.clone()), 1);
            let terms = divergence.of(logs(self), logs(full));
            values.extend(terms.values.into_data().iter::<f32>());
            let weights = TensorData::new(weights[rows.clone()].to_vec(), [rows.len(), 1]);
            let weights = Tensor::<B, 2>::from_data(weights, &self.states.device()).cast(DType::F32);
            policy.add(self, rows.clone(), terms.d_policy * weights.clone() / self.temperature);
            if !detached {
                of_full.add(full, rows, terms.d_full * weights / full.temperature);
            }
        }
        Alignment { values, policy: policy.gradient(), full: (!detached).then(|| of_full.gradient()) }
    }

    /// The gradient with respect to states, from that with respect to their logits before the temperature `[rows, vocab]`.
    fn states_gradient(&self, d_logits: Tensor<B, 2>) -> Tensor<B, 2> {
        matmul(d_logits.cast(self.states.dtype()), self.unembedding.clone(), DType::F32)
    }
}

/// Gradients summed over chunks.
struct Sum<B: Backend> {
    states: Vec<Tensor<B, 2>>,
    unembedding: Tensor<B, 2>,
}

impl<B: Backend> Sum<B> {
    fn new(policy: &InternalPolicy<B>) -> Self {
        Self { states: Vec::new(), unembedding: policy.unembedding.zeros_like().cast(DType::F32) }
    }

    fn add(&mut self, policy: &InternalPolicy<B>, rows: std::ops::Range<usize>, d_logits: Tensor<B, 2>) {
        let states = policy.states.clone().slice([rows]);
        let d_logits = d_logits.cast(states.dtype());
        self.states.push(policy.states_gradient(d_logits.clone()));
        self.unembedding = self.unembedding.clone() + matmul(d_logits.transpose(), states, DType::F32);
    }

    fn gradient(self) -> PolicyGradient<B> {
        PolicyGradient { states: Tensor::cat(self.states, 0), unembedding: self.unembedding }
    }
}
