//! Generalised advantage estimation (arXiv 1506.02438) from the values of a critic, and the loss of these values (PPO,
//! arXiv 1707.06347).

use bupo_collective::Processes;

use super::advantage::BATCH_EPSILON;
use crate::RlError;
use crate::agree::Agree;

/// Variances of returns below which there is nothing to explain; rounding makes returns that are equal differ by less.
const NO_VARIANCE: f64 = 1e-12;

/// What a critic says of a response's tokens, and what it is trained to say. One number per token, at the state that predicts it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CriticTargets {
    /// Values before the step.
    pub values: Vec<f32>,
    /// Advantages; whitened by [`whiten`].
    pub advantages: Vec<f64>,
    /// Returns, which the values are trained towards: the advantages before they are whitened, plus the values.
    pub returns: Vec<f64>,
}

/// The loss of a response's values, summed over its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueLoss {
    /// `0.5 max((v - R)^2, (clamp(v, v_old - clip, v_old + clip) - R)^2)`, summed.
    pub loss: f64,
    /// Its derivative by each value.
    pub d_values: Vec<f64>,
    /// Tokens whose clipped value has the larger loss.
    pub clipped: usize,
}

/// A critic's values before a step, over all of its tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueStats {
    /// The mean value.
    pub mean: f64,
    /// `1 - var(returns - values) / var(returns)`; `None` if all returns are the same.
    pub explained_variance: Option<f64>,
}

impl CriticTargets {
    /// The estimates of a response from the reward of each token and the value of the state before it:
    ///
    /// ```text
    /// delta_t = r_t + gamma V_{t+1} - V_t
    /// A_t = delta_t + gamma lambda A_{t+1}
    /// ```
    ///
    /// After the last token the value is 0, also if the response was cut off there, as in TRL and verl.
    ///
    /// # Panics
    /// If rewards and values differ in number.
    pub fn new(rewards: &[f64], values: Vec<f32>, gamma: f64, lambda: f64) -> Self {
        assert_eq!(rewards.len(), values.len(), "one value per token");
        let (mut advantages, mut returns) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        let (mut next_value, mut next_advantage) = (0.0, 0.0);
        for (token, value) in values.iter().copied().map(f64::from).enumerate().rev() {
            let delta = rewards[token] + gamma * next_value - value;
            next_advantage = delta + gamma * lambda * next_advantage;
            next_value = value;
            advantages[token] = next_advantage;
            returns[token] = next_advantage + value;
        }
        Self { values, advantages, returns }
    }

    /// The loss of values in the place of those before the step, from which they are clipped at a distance; 0: not.
    ///
    /// # Panics
    /// If the values are not as many.
    pub fn loss(&self, values: &[f32], clip: f64) -> ValueLoss {
        assert_eq!(values.len(), self.returns.len(), "one value per token");
        let mut total = ValueLoss { loss: 0.0, d_values: Vec::with_capacity(values.len()), clipped: 0 };
        for ((value, old), target) in values.iter().zip(&self.values).zip(&self.returns) {
            let (value, old) = (f64::from(*value), f64::from(*old));
            // Not clamp, which panics where the model's numbers are not finite.
            let held = if clip > 0.0 { value.max(old - clip).min(old + clip) } else { value };
            let is_clipped = (held - target).powi(2) > (value - target).powi(2);
            let distance = if is_clipped { held - target } else { value - target };
            total.loss += 0.5 * distance.powi(2);
            // A clipped value is a constant.
            total.d_values.push(if is_clipped { 0.0 } else { distance });
            total.clipped += usize::from(is_clipped);
        }
        total
    }
}

/// A response's estimates with its place in a step.
pub type PlacedTargets<'a> = ((usize, usize), &'a mut CriticTargets);

/// Whitens the advantages of a step over the tokens of all its responses, of which each process has some:
/// `(A - mean) / sqrt(var + 1e-8)` with the unbiased variance, as TRL and verl do. Sums are taken in the order of places, so that they
/// have the same bits for any number of processes. `None` without tokens.
///
/// # Errors
/// If another process fails.
pub fn whiten(responses: &mut [PlacedTargets<'_>], processes: &Processes) -> Result<Option<ValueStats>, RlError> {
    let sums = totals(responses, processes, |targets| {
        let values = targets.values.iter().copied().map(f64::from).sum();
        [targets.values.len() as f64, targets.advantages.iter().sum(), targets.returns.iter().sum(), values]
    })?;
    let [tokens, advantages, returns, values] = sums;
    if tokens == 0.0 {
        return Ok(None);
    }
    let (mean, mean_return) = (advantages / tokens, returns / tokens);
    let squares = |values: &[f64], mean: f64| values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let [of_advantages, of_returns] = totals(responses, processes, |targets| {
        [squares(&targets.advantages, mean), squares(&targets.returns, mean_return)]
    })?;
    let variance = |squares: f64| squares / (tokens - 1.0).max(1.0);
    let scale = (variance(of_advantages) + BATCH_EPSILON).sqrt().recip();
    for (_, targets) in responses {
        targets.advantages.iter_mut().for_each(|advantage| *advantage = (*advantage - mean) * scale);
    }
    // Before they are whitened, advantages are returns less values.
    let explained = (variance(of_returns) > NO_VARIANCE).then(|| 1.0 - of_advantages / of_returns);
    Ok(Some(ValueStats { mean: values / tokens, explained_variance: explained }))
}

/// Sums over the responses of all processes, in the order of their places.
fn totals<const N: usize>(
    responses: &[PlacedTargets<'_>],
    processes: &Processes,
    of: impl Fn(&CriticTargets) -> [f64; N],
) -> Result<[f64; N], RlError> {
    let own: Vec<((usize, usize), Vec<f64>)> =
        responses.iter().map(|(place, targets)| (*place, of(targets).to_vec())).collect();
    let mut all: Vec<_> = processes.agreed(Ok(own))?.into_iter().flatten().collect();
    all.sort_by_key(|(place, _)| *place);
    let mut sums = [0.0; N];
    for (_, values) in all {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use bupo_collective::threads;

    use super::*;

    fn targets(response: usize) -> CriticTargets {
        let number = |token: usize| ((response * 7 + token) as f64 * 1.7).sin();
        let length = 1 + response % 4;
        let rewards: Vec<f64> = (0..length).map(number).collect();
        CriticTargets::new(&rewards, (0..length).map(|token| number(token + 3) as f32).collect(), 0.99, 0.9)
    }

    #[test]
    fn with_gamma_and_lambda_1_the_return_is_the_sum_of_rewards_to_come() {
        let found = CriticTargets::new(&[0.0, -0.5, 1.0], vec![0.25, 0.5, -1.0], 1.0, 1.0);
        assert_eq!(found.returns, [0.5, 0.5, 1.0]);
        assert_eq!(found.advantages, [0.25, 0.0, 2.0]);
        // With lambda 0 the advantage is the error of one step.
        let found = CriticTargets::new(&[0.0, -0.5, 1.0], vec![0.25, 0.5, -1.0], 1.0, 0.0);
        assert_eq!(found.advantages, [0.25, -2.0, 2.0]);
    }

    #[test]
    fn whitening_has_the_same_bits_for_any_number_of_processes() {
        let whitened = |processes: &Processes, size: usize| {
            let mine = (0..11).filter(|response| response % size == processes.rank());
            let mut own: Vec<(usize, CriticTargets)> = mine.map(|response| (response, targets(response))).collect();
            let mut placed: Vec<PlacedTargets<'_>> =
                own.iter_mut().map(|(response, targets)| ((*response / 3, *response % 3), targets)).collect();
            let stats = whiten(&mut placed, processes).unwrap();
            (stats, own)
        };
        let (expected, alone) = whitened(&Processes::alone(), 1);
        let all: Vec<f64> = alone.iter().flat_map(|(_, targets)| targets.advantages.clone()).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (all.len() - 1) as f64;
        assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-6, "{mean} {variance}");
        for size in [2, 3, 12] {
            std::thread::scope(|scope| {
                for one in threads(size) {
                    let (expected, alone, whitened) = (&expected, &alone, &whitened);
                    scope.spawn(move || {
                        let (stats, own) = whitened(&Processes::new(Box::new(one), |_| {}), size);
                        assert_eq!(stats, *expected);
                        assert!(own.iter().all(|(response, targets)| *targets == alone[*response].1));
                    });
                }
            });
        }
    }

    #[test]
    fn values_that_are_returns_explain_all_and_equal_returns_have_nothing_to_explain() {
        let stats = |rewards: &[f64], values: &[f32]| {
            let mut targets: Vec<CriticTargets> =
                rewards.iter().zip(values).map(|(r, v)| CriticTargets::new(&[*r], vec![*v], 1.0, 1.0)).collect();
            let mut placed: Vec<PlacedTargets<'_>> =
                targets.iter_mut().enumerate().map(|(index, targets)| ((index, 0), targets)).collect();
            whiten(&mut placed, &Processes::alone()).unwrap()
        };
        let all = Some(ValueStats { mean: 0.5, explained_variance: Some(1.0) });
        assert_eq!(stats(&[0.0, 1.0], &[0.0, 1.0]), all);
        assert_eq!(stats(&[0.0, 1.0], &[0.25, 0.75]).and_then(|stats| stats.explained_variance), Some(0.75));
        assert_eq!(stats(&[0.7, 0.7], &[0.1, 0.3]).and_then(|stats| stats.explained_variance), None);
        assert_eq!(stats(&[], &[]), None);
    }
}
