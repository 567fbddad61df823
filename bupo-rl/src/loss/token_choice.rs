//! Tokens chosen within a whole mini-batch: those of the highest entropy, and those whose log-prob and advantage covary most.
//!
//! Thresholds are exact order statistics over the tokens of all processes, found by counting the bytes of sortable keys.

use bupo_collective::Processes;
use serde::{Deserialize, Serialize};

use super::clipped::Objective;
use crate::RlError;
use crate::agree::Agree;

/// What happens to the tokens of the highest covariance, `(logp - mean logp) (A - mean A)`, with log-probs before the step and means
/// over the mini-batch's tokens (arXiv 2505.22617).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CovarianceMode {
    /// Nothing.
    #[default]
    Off,
    /// Clip-Cov: `share` of all tokens, drawn at random from those with a covariance between `low` and `high`, have no surrogate.
    Clip,
    /// KL-Cov: the `share` of all tokens with the highest covariance are penalised by `kl_coefficient |logp - logp_old|`.
    Kl,
}

/// Tokens chosen by covariance. The shares are at least one token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Covariance {
    /// What happens to them.
    pub mode: CovarianceMode,
    /// Their share of the mini-batch's tokens.
    pub share: f64,
    /// The bounds of `clip`, which are excluded.
    pub low: f64,
    /// The same.
    pub high: f64,
    /// The weight of the penalty of `kl`.
    pub kl_coefficient: f64,
}

impl Default for Covariance {
    /// Off; the numbers of the paper.
    fn default() -> Self {
        Self { mode: CovarianceMode::Off, share: 2e-4, low: 1.0, high: 5.0, kl_coefficient: 1.0 }
    }
}

impl Covariance {
    pub(crate) fn is_on(&self) -> bool {
        self.mode != CovarianceMode::Off
    }
}

/// A response of a mini-batch before its update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenValues<'a> {
    /// Its number in the mini-batch, by which random numbers are drawn.
    pub index: usize,
    /// Log-probs under the policy before the step.
    pub log_probs: &'a [f32],
    /// Entropies of that policy.
    pub entropy: &'a [f32],
    /// The advantage.
    pub advantage: f64,
}

/// The tokens chosen of a response: one mark per token, or `None` if nothing is chosen by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChosenTokens {
    /// Whether the token's surrogate is in the loss; `None` for all.
    pub kept: Option<Vec<bool>>,
    /// Whether the token is penalised; `None` for none.
    pub penalised: Option<Vec<bool>>,
}

impl ChosenTokens {
    /// Weights of the tokens' surrogates, set to 0 where the token is left out.
    pub(crate) fn weigh(&self, weights: Option<Vec<f64>>) -> Option<Vec<f64>> {
        let Some(kept) = &self.kept else { return weights };
        let weights = weights.unwrap_or_else(|| vec![1.0; kept.len()]);
        Some(weights.into_iter().zip(kept).map(|(weight, kept)| if *kept { weight } else { 0.0 }).collect())
    }
}

impl Objective {
    /// The tokens chosen of each response of a mini-batch whose responses the processes share. `seed` is that of the mini-batch.
    ///
    /// # Errors
    /// If another process fails.
    pub fn choose_tokens(
        &self,
        responses: &[TokenValues<'_>],
        seed: u64,
        processes: &Processes,
    ) -> Result<Vec<ChosenTokens>, RlError> {
        let tokens = |response: &TokenValues<'_>| response.log_probs.len();
        let count = total(responses.iter().map(tokens).sum::<usize>(), processes)?.into_iter().sum::<usize>();
        let mut chosen = vec![ChosenTokens::default(); responses.len()];
        if self.top_entropy_share < 1.0 {
            let entropies: Vec<Vec<f64>> = responses.iter().map(|response| in_f64(response.entropy)).collect();
            // Those at or above the quantile 1 - share, as torch.quantile interpolates it.
            let below = ((1.0 - self.top_entropy_share) * count.saturating_sub(1) as f64).ceil() as usize;
            let top = highest(&entropies, count.saturating_sub(below), processes)?;
            chosen.iter_mut().zip(top).for_each(|(chosen, top)| chosen.kept = Some(top));
        }
        let number = ((count as f64 * self.covariance.share) as usize).max(1);
        match self.covariance.mode {
            CovarianceMode::Off => {}
            CovarianceMode::Kl => {
                let top = highest(&self.covariances(responses, processes)?, number, processes)?;
                chosen.iter_mut().zip(top).for_each(|(chosen, top)| chosen.penalised = Some(top));
            }
            CovarianceMode::Clip => {
                let covariances = self.covariances(responses, processes)?;
                for (chosen, clipped) in
                    chosen.iter_mut().zip(self.drawn(responses, &covariances, number, seed, processes)?)
                {
                    let kept = chosen.kept.take().unwrap_or_else(|| vec![true; clipped.len()]);
                    chosen.kept = Some(kept.into_iter().zip(clipped).map(|(kept, clipped)| kept && !clipped).collect());
                }
            }
        }
        Ok(chosen)
    }

    /// The covariance of each token.
    fn covariances(&self, responses: &[TokenValues<'_>], processes: &Processes) -> Result<Vec<Vec<f64>>, RlError> {
        let (mut tokens, mut log_probs, mut advantages) = (0, 0.0, 0.0);
        for response in responses {
            tokens += response.log_probs.len();
            log_probs += in_f64(response.log_probs).iter().sum::<f64>();
            advantages += self.weighted(response.advantage) * response.log_probs.len() as f64;
        }
        let sums = total((tokens, log_probs, advantages), processes)?;
        let tokens = sums.iter().map(|(tokens, ..)| tokens).sum::<usize>().max(1) as f64;
        let log_prob = sums.iter().map(|(_, log_probs, _)| log_probs).sum::<f64>() / tokens;
        let advantage = sums.iter().map(|(_, _, advantages)| advantages).sum::<f64>() / tokens;
        let of_response = |response: &TokenValues<'_>| {
            let distance = self.weighted(response.advantage) - advantage;
            in_f64(response.log_probs).into_iter().map(|own| (own - log_prob) * distance).collect()
        };
        Ok(responses.iter().map(of_response).collect())
    }

    /// `number` tokens drawn at random from those with a covariance within the bounds, or all of these.
    fn drawn(
        &self,
        responses: &[TokenValues<'_>],
        covariances: &[Vec<f64>],
        number: usize,
        seed: u64,
        processes: &Processes,
    ) -> Result<Vec<Vec<bool>>, RlError> {
        let within = |covariance: f64| covariance > self.covariance.low && covariance < self.covariance.high;
        // Random numbers belong to tokens, so that the draw does not depend on how the responses are shared out; 0 is no candidate.
        let keys = responses.iter().zip(covariances).map(|(response, covariances)| {
            let key = |(token, covariance): (usize, &f64)| {
                if within(*covariance) { random(seed, response.index, token).max(1) } else { 0 }
            };
            covariances.iter().enumerate().map(key).collect()
        });
        let keys: Vec<Vec<u64>> = keys.collect();
        let threshold = nth_highest(&keys, number, processes)?;
        Ok(marks(&keys, threshold.max(1)))
    }
}

/// Whether each value is among the `number` highest of all processes; values equal to the lowest of these are too.
fn highest(values: &[Vec<f64>], number: usize, processes: &Processes) -> Result<Vec<Vec<bool>>, RlError> {
    let keys: Vec<Vec<u64>> = values.iter().map(|values| values.iter().copied().map(sortable).collect()).collect();
    let threshold = nth_highest(&keys, number, processes)?;
    Ok(marks(&keys, threshold))
}

fn marks(keys: &[Vec<u64>], threshold: u64) -> Vec<Vec<bool>> {
    keys.iter().map(|keys| keys.iter().map(|key| *key >= threshold).collect()).collect()
}

/// The `number`-th highest key of all processes, from 1; 0 if there are fewer. Byte by byte: the keys that share the bytes found so
/// far are counted by their next byte.
fn nth_highest(keys: &[Vec<u64>], number: usize, processes: &Processes) -> Result<u64, RlError> {
    let (mut found, mut left) = (0_u64, number.max(1));
    for shift in (0..u64::BITS).step_by(8).rev() {
        let mut counts = vec![0_usize; 256];
        let upper = |key: u64| key.checked_shr(shift + 8).unwrap_or(0);
        for key in keys.iter().flatten().filter(|key| upper(**key) == upper(found)) {
            counts[(key >> shift) as usize & 0xff] += 1;
        }
        let all = total(counts, processes)?;
        let count = |byte: usize| all.iter().map(|counts| counts[byte]).sum::<usize>();
        let Some(byte) = (0..256).rev().find(|byte| {
            let here = count(*byte);
            let is_here = here >= left;
            if !is_here {
                left -= here;
            }
            is_here
        }) else {
            return Ok(0);
        };
        found |= (byte as u64) << shift;
    }
    Ok(found)
}

/// What each process has.
fn total<T: Serialize + serde::de::DeserializeOwned>(own: T, processes: &Processes) -> Result<Vec<T>, RlError> {
    processes.agreed(Ok(own))
}

/// A key in the order of numbers; -0 is 0, NaN is below all numbers.
fn sortable(value: f64) -> u64 {
    if value.is_nan() {
        return 0;
    }
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

/// A random number of a token (splitmix64 of its place).
fn random(seed: u64, response: usize, token: usize) -> u64 {
    let mixed = |mut x: u64| {
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    mixed(mixed(mixed(seed) ^ response as u64) ^ token as u64)
}

fn in_f64(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[cfg(test)]
mod tests {
    use bupo_collective::threads;

    use super::*;

    /// Responses of pseudo-random log-probs and entropies.
    fn batch() -> Vec<(Vec<f32>, Vec<f32>, f64)> {
        let unit = |response: usize, token: usize| random(7, response, token) as f32 / u64::MAX as f32;
        (0..9)
            .map(|response| {
                let length = 3 + response * 5 % 7;
                let log_probs = (0..length).map(|token| -4.0 * unit(response, token)).collect();
                let entropy = (0..length).map(|token| 2.0 * unit(response + 100, token)).collect();
                (log_probs, entropy, [2.0, -1.5, 0.5][response % 3])
            })
            .collect()
    }

    fn choose(objective: &Objective, own: &[usize], processes: &Processes) -> Vec<ChosenTokens> {
        let batch = batch();
        let values: Vec<TokenValues<'_>> = own
            .iter()
            .map(|index| {
                let (log_probs, entropy, advantage) = &batch[*index];
                TokenValues { index: *index, log_probs, entropy, advantage: *advantage }
            })
            .collect();
        objective.choose_tokens(&values, 3, processes).unwrap_or_default()
    }

    #[test]
    fn several_processes_choose_the_tokens_that_one_chooses() {
        let all: Vec<usize> = (0..9).collect();
        let clip = Covariance { mode: CovarianceMode::Clip, share: 0.1, low: 0.5, ..Covariance::default() };
        let kl = Covariance { mode: CovarianceMode::Kl, share: 0.1, ..Covariance::default() };
        for (top_entropy_share, covariance) in [(0.2, Covariance::default()), (1.0, clip), (1.0, kl), (0.5, clip)] {
            let objective = Objective { top_entropy_share, covariance, ..Objective::default() };
            let alone = choose(&objective, &all, &Processes::alone());
            let shares: [&[usize]; 3] = [&[8, 0, 3], &[], &[1, 2, 4, 5, 6, 7]];
            let of_processes: Vec<Vec<ChosenTokens>> = std::thread::scope(|scope| {
                let running: Vec<_> = threads(3)
                    .into_iter()
                    .zip(shares)
                    .map(|(one, own)| {
                        let objective = &objective;
                        scope.spawn(move || choose(objective, own, &Processes::new(Box::new(one), |_| {})))
                    })
                    .collect();
                running.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
            });
            for (own, chosen) in shares.iter().zip(&of_processes) {
                let expected: Vec<ChosenTokens> = own.iter().map(|index| alone[*index].clone()).collect();
                assert_eq!(*chosen, expected, "{covariance:?}");
            }
        }
    }

    #[test]
    fn clip_cov_draws_its_share_of_the_candidates_by_the_seed() {
        let tokens: usize = batch().iter().map(|(log_probs, ..)| log_probs.len()).sum();
        let covariance = Covariance { mode: CovarianceMode::Clip, share: 0.1, low: 0.25, ..Covariance::default() };
        let objective = |share| Objective { covariance: Covariance { share, ..covariance }, ..Objective::default() };
        let left_out = |objective: &Objective, seed: u64| -> Vec<(usize, usize)> {
            let batch = batch();
            let values: Vec<TokenValues<'_>> = batch
                .iter()
                .enumerate()
                .map(|(index, (log_probs, entropy, advantage))| TokenValues {
                    index,
                    log_probs,
                    entropy,
                    advantage: *advantage,
                })
                .collect();
            let chosen = objective.choose_tokens(&values, seed, &Processes::alone()).unwrap_or_default();
            let places = chosen.iter().enumerate().flat_map(|(response, chosen)| {
                let kept = chosen.kept.clone().unwrap_or_default();
                kept.into_iter().enumerate().filter(|(_, kept)| !kept).map(move |(token, _)| (response, token))
            });
            places.collect()
        };
        let candidates = left_out(&objective(1.0), 3);
        let (one, other) = (left_out(&objective(0.1), 3), left_out(&objective(0.1), 4));
        assert!(candidates.len() > tokens / 10 && candidates.len() < tokens, "{} of {tokens}", candidates.len());
        assert_eq!((one.len(), other.len()), (tokens / 10, tokens / 10));
        assert!(one != other && one.iter().chain(&other).all(|place| candidates.contains(place)));
    }

    #[test]
    fn keys_are_in_the_order_of_numbers() {
        let ordered = [f64::NAN, f64::NEG_INFINITY, -2.0, -1e-300, 0.0, 1e-300, 1.0, f64::INFINITY].map(sortable);
        assert!(ordered.is_sorted() && ordered.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(sortable(-0.0), sortable(0.0));
    }
}
