//! States and an unembedding, read as a policy.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use crate::CoreError;

/// `softmax(h E_u^T / T)` for some states `h`: the policy of a site at some positions.
#[derive(Debug, Clone)]
pub struct InternalPolicy<B: Backend> {
    pub(crate) states: Tensor<B, 2>,
    pub(crate) unembedding: Tensor<B, 2>,
    pub(crate) temperature: f64,
}

/// A token drawn from a policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// The token's id.
    pub token: u32,
    /// Its log-probability in nats at the policy's temperature.
    pub log_prob: f32,
}

/// A token and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenProb {
    /// The token's id.
    pub token: u32,
    /// Its probability at the policy's temperature.
    pub prob: f32,
}

impl<B: Backend> InternalPolicy<B> {
    /// The policy of `states` `[tokens, hidden]` under `unembedding` `[vocab, hidden]`, at temperature 1.
    pub fn new(states: Tensor<B, 2>, unembedding: Tensor<B, 2>) -> Self {
        Self { states, unembedding, temperature: 1.0 }
    }

    /// The same policy with its logits divided by `temperature`, which must be positive.
    pub fn with_temperature(self, temperature: f64) -> Self {
        assert!(temperature > 0.0, "a temperature is positive");
        Self { temperature, ..self }
    }

    /// Draws one token per state by inverting the cumulative distribution at `uniforms`, numbers in `[0, 1)` drawn
    /// on the host so that every backend samples alike.
    ///
    /// # Errors
    /// If a logit is not finite.
    ///
    /// # Panics
    /// If there are not as many uniforms as states.
    pub fn sample(&self, uniforms: &[f64]) -> Result<Vec<Sampled>, CoreError> {
        assert_eq!(uniforms.len(), self.states.dims()[0], "one uniform per state");
        let mut uniforms = uniforms.iter();
        self.per_row(|logits| {
            let (max, sum) = max_and_sum(logits)?;
            let threshold = uniforms.next().copied().unwrap_or_default() * sum;
            let mut cumulative = 0.0;
            let mut chosen = 0;
            for (token, logit) in logits.iter().enumerate() {
                let weight = f64::from((logit - max).exp());
                if weight > 0.0 {
                    chosen = token;
                    cumulative += weight;
                    if cumulative > threshold {
                        break;
                    }
                }
            }
            Ok(sampled(chosen, logits[chosen], max, sum))
        })
    }

    /// The most probable token of each state; the first one on a tie.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub fn greedy(&self) -> Result<Vec<Sampled>, CoreError> {
        self.per_row(|logits| {
            let (max, sum) = max_and_sum(logits)?;
            let chosen = logits.iter().position(|logit| *logit == max).unwrap_or_default();
            Ok(sampled(chosen, max, max, sum))
        })
    }

    /// The `k` most probable tokens of each state, most probable first.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub fn top_tokens(&self, k: usize) -> Result<Vec<Vec<TokenProb>>, CoreError> {
        self.per_row(|logits| {
            let (max, sum) = max_and_sum(logits)?;
            let k = k.min(logits.len());
            let mut order: Vec<usize> = (0..logits.len()).collect();
            let by_logit = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
            if k > 0 && k < order.len() {
                order.select_nth_unstable_by(k - 1, by_logit);
            }
            order.truncate(k);
            order.sort_by(by_logit);
            let prob = |token: usize| (f64::from((logits[token] - max).exp()) / sum) as f32;
            Ok(order.into_iter().map(|token| TokenProb { token: token as u32, prob: prob(token) }).collect())
        })
    }

    /// Reads the logits back chunk by chunk and maps each row.
    fn per_row<T>(&self, mut f: impl FnMut(&[f32]) -> Result<T, CoreError>) -> Result<Vec<T>, CoreError> {
        let [tokens, _] = self.states.dims();
        let [vocab, _] = self.unembedding.dims();
        let mut rows = Vec::with_capacity(tokens);
        for chunk in self.chunks() {
            let logits: Vec<f32> = self.logits(chunk).into_data().iter::<f32>().collect();
            for row in logits.chunks_exact(vocab) {
                rows.push(f(row)?);
            }
        }
        Ok(rows)
    }
}

/// Token ids as a device tensor.
pub fn token_tensor<B: Backend>(ids: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let len = ids.len();
    Tensor::from_data(TensorData::new(ids, [len]), device)
}

/// The largest logit and the sum of `exp(logit - max)`.
fn max_and_sum(logits: &[f32]) -> Result<(f32, f64), CoreError> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - max).exp())).sum();
    // A NaN makes the sum NaN; an infinite maximum makes `inf - inf`.
    if sum.is_finite() { Ok((max, sum)) } else { Err(CoreError::NonFiniteLogits) }
}

fn sampled(token: usize, logit: f32, max: f32, sum: f64) -> Sampled {
    Sampled { token: token as u32, log_prob: (f64::from(logit - max) - sum.ln()) as f32 }
}
