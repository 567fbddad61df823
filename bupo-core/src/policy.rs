//! States and an unembedding, read as a policy.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use crate::CoreError;

/// 32 MiB of f32.
const LOGITS_AT_ONCE: usize = 1 << 23;

/// `softmax(h E_u^T / T)` for some states `h`: the policy of a site at some positions.
///
/// ```
/// use bupo_core::InternalPolicy;
/// use burn::backend::Flex;
/// use burn::tensor::Tensor;
///
/// # fn main() -> Result<(), bupo_core::CoreError> {
/// let device = Default::default();
/// // Two states under three tokens: one that prefers the first, and one that knows nothing.
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
/// // Random numbers come from the caller, so that every backend samples alike.
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
    /// How many logits are held at once.
    pub(crate) logits_at_once: usize,
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
        Self { states, unembedding, temperature: 1.0, logits_at_once: LOGITS_AT_ONCE }
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

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

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
    fn sampled_log_probs_are_those_of_the_tokens() -> Result<(), CoreError> {
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
    fn greedy_takes_the_first_of_the_best() -> Result<(), CoreError> {
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
