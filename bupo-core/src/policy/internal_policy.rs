//! The policy of states of the residual stream.

use std::ops::Range;

use burn::tensor::{DType, Tensor, backend::Backend};

use crate::kernels::{linear, linears_of_many_rows, matmul, runs_on_gpu};
use crate::profile::{Part, timed};

/// Logits that a policy holds at a time: 32 MiB of f32, about a processor's cache; with the kernels of GPUs 128 MiB, which is fewer
/// launches, and which a buffer of WGPU may have.
pub const fn logits_at_once(gpu_kernels: bool) -> usize {
    if gpu_kernels { 1 << 25 } else { 1 << 23 }
}

/// `softmax(h E_u^T / T)` for some states `h`: the policy of a site at some positions.
///
/// ```
/// use bupo_core::InternalPolicy;
/// use burn::backend::Flex;
/// use burn::tensor::Tensor;
///
/// # fn main() -> Result<(), bupo_core::CoreError> {
/// let device = Default::default();
/// // Two states and three tokens: a policy that prefers the first token, and a uniform one.
/// let states = Tensor::<Flex, 2>::from_floats([[3.0, 0.0], [0.0, 0.0]], &device);
/// let unembedding = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], &device);
/// let policy = InternalPolicy::new(states, unembedding);
///
/// let entropy = policy.entropy();
/// assert!(entropy[0] < entropy[1] && (entropy[1] - 3_f32.ln()).abs() < 1e-6);
///
/// let log_probs = policy.token_stats(&[0, 2]).log_probs;
/// assert!((log_probs[1] + 3_f32.ln()).abs() < 1e-6);
///
/// // Random numbers come from the caller, so that every backend samples the same tokens.
/// let sampled = policy.sample(&[0.5, 0.9])?;
/// assert_eq!(sampled[0].token, 0);
/// assert!((sampled[0].log_prob - log_probs[0]).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct InternalPolicy<B: Backend> {
    pub(crate) states: Tensor<B, 2>,
    pub(crate) unembedding: Tensor<B, 2>,
    pub(crate) temperature: f64,
    /// How many logits are held at a time.
    pub(crate) logits_at_once: usize,
}

impl<B: Backend> InternalPolicy<B> {
    /// The policy of `states` `[tokens, hidden]` under `unembedding` `[vocab, hidden]`, at temperature 1. States are
    /// cast to the unembedding's dtype; logits and everything computed from them are f32.
    pub fn new(states: Tensor<B, 2>, unembedding: Tensor<B, 2>) -> Self {
        let states = states.cast(unembedding.dtype());
        Self { states, unembedding, temperature: 1.0, logits_at_once: logits_at_once(runs_on_gpu::<B>()) }
    }

    /// The same policy with its logits divided by `temperature`, which must be positive.
    pub fn with_temperature(self, temperature: f64) -> Self {
        assert!(temperature > 0.0, "a temperature is positive");
        Self { temperature, ..self }
    }

    /// Ranges of states whose logits fit into `logits_at_once`, in order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<B> {
        let [tokens, _] = self.states.dims();
        let [vocab, _] = self.unembedding.dims();
        let rows = (self.logits_at_once / vocab.max(1)).max(1);
        (0..tokens).step_by(rows).map(move |start| start..(start + rows).min(tokens))
    }

    /// `h E_u^T / T` of a range of states, in f32, `[rows, vocab]`.
    pub(crate) fn logits(&self, rows: Range<usize>) -> Tensor<B, 2> {
        self.tempered(logits_of(self.states.clone().slice([rows]), self.unembedding.clone()))
    }

    /// [`Self::logits`] to sample from: on the CPU backend the bits of a row do not depend on the other rows.
    pub(crate) fn sampling_logits(&self, rows: Range<usize>) -> Tensor<B, 2> {
        let (states, unembedding) = (self.states.clone().slice([rows]), self.unembedding.clone());
        let is_full = states.dtype() == DType::F32;
        self.tempered(if is_full { linear(states, unembedding) } else { logits_of(states, unembedding) })
    }

    fn tempered(&self, logits: Tensor<B, 2>) -> Tensor<B, 2> {
        if self.temperature == 1.0 { logits } else { logits / self.temperature }
    }
}

/// `h E_u^T` in f32, of states and rows of the unembedding in the same dtype, of which sums are in f32.
pub(crate) fn logits_of<B: Backend>(states: Tensor<B, 2>, unembedding: Tensor<B, 2>) -> Tensor<B, 2> {
    if states.dtype() == DType::F32 {
        let [logits] = linears_of_many_rows(states, [unembedding]);
        return logits;
    }
    let device = states.device();
    timed::<B, _>(Part::MatrixProducts, &device, || matmul(states, unembedding.transpose(), DType::F32))
}
