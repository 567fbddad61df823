//! Confidence intervals by bootstrap over responses.

use std::thread;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use crate::accumulator::Sums;

/// Number of bootstrap resamples.
const RESAMPLES: usize = 1000;
/// Columns summed at once: few enough for a row to stay in the L1 cache.
const BLOCK: usize = 64;

/// A mean with its 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean over all tokens of the slice.
    pub mean: f64,
    /// The 2.5% and 97.5% quantiles of the resampled means; nothing for fewer than two responses.
    pub interval: Option<(f64, f64)>,
}

/// Bootstrap resamples of the responses. All statistics use the same resamples.
#[derive(Debug, Clone)]
pub struct Resamples {
    /// How often each response is drawn, `[RESAMPLES, responses]`.
    counts: Vec<Vec<f64>>,
}

impl Resamples {
    /// Draws resamples with replacement, of the size of the sample. They depend only on the number of responses.
    pub fn new(responses: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let draw = |_| {
            let mut counts = vec![0.0; responses];
            (0..responses).for_each(|_| counts[rng.random_range(0..responses)] += 1.0);
            counts
        };
        Self { counts: (0..if responses < 2 { 0 } else { RESAMPLES }).map(draw).collect() }
    }

    /// Mean and interval per column; nothing for columns without tokens or with NaN.
    pub(crate) fn estimates(&self, sums: &Sums) -> Vec<Option<Estimate>> {
        let total: f64 = sums.counts.iter().sum();
        if total == 0.0 {
            return vec![None; sums.columns];
        }
        let estimate = |column: usize, means: &mut Vec<f64>| {
            let mean = sums.values.iter().skip(column).step_by(sums.columns).sum::<f64>() / total;
            mean.is_finite().then(|| Estimate { mean, interval: interval(means) })
        };
        let blocks: Vec<usize> = (0..sums.columns).step_by(BLOCK).collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let run = |blocks: &[usize]| -> Vec<Option<Estimate>> {
            let of_block = |start: &usize| {
                let end = (start + BLOCK).min(sums.columns);
                let mut means = self.means(sums, *start, end);
                (*start..end).zip(&mut means).map(|(column, means)| estimate(column, means)).collect::<Vec<_>>()
            };
            blocks.iter().flat_map(of_block).collect()
        };
        thread::scope(|scope| {
            let parts: Vec<_> = blocks
                .chunks(blocks.len().div_ceil(threads).max(1))
                .map(|part| scope.spawn(move || run(part)))
                .collect();
            // A panic of a thread continues here.
            parts
                .into_iter()
                .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    /// `[column][resample]`: means of the columns `start..end` in each resample that has tokens.
    pub(crate) fn means(&self, sums: &Sums, start: usize, end: usize) -> Vec<Vec<f64>> {
        let mut means = vec![Vec::with_capacity(self.counts.len()); end - start];
        let mut total = vec![0.0; end - start];
        for counts in &self.counts {
            total.fill(0.0);
            let mut tokens = 0.0;
            for (row, (count, of_response)) in counts.iter().zip(&sums.counts).enumerate() {
                if *count > 0.0 && *of_response > 0.0 {
                    tokens += count * of_response;
                    let values = &sums.values[row * sums.columns + start..row * sums.columns + end];
                    total.iter_mut().zip(values).for_each(|(total, value)| *total += count * value);
                }
            }
            if tokens > 0.0 {
                means.iter_mut().zip(&total).for_each(|(means, total)| means.push(total / tokens));
            }
        }
        means
    }
}

/// The quantiles; nothing if most resamples have no tokens.
fn interval(means: &mut [f64]) -> Option<(f64, f64)> {
    if means.len() * 2 < RESAMPLES {
        return None;
    }
    means.sort_by(f64::total_cmp);
    let last = (means.len() - 1) as f64;
    Some((means[(0.025 * last).floor() as usize], means[(0.975 * last).ceil() as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Responses of different lengths. All tokens of a response have the same value, so tokens are clustered.
    fn sample(rng: &mut ChaCha8Rng, responses: usize) -> Sums {
        let (mut values, mut counts) = (Vec::new(), Vec::new());
        for _ in 0..responses {
            let length = f64::from(rng.random_range(1..20_u32));
            let value: f64 = rng.random_range(-1.0..1.0) + if length > 10.0 { 0.5 } else { 0.0 };
            values.extend([value * length, 3.0 * length]);
            counts.push(length);
        }
        Sums { values, columns: 2, counts }
    }

    #[test]
    fn intervals_cover_the_true_mean_at_their_nominal_rate() {
        // Lengths are 1 to 19; tokens of responses above 10 have 0.5 more: 135 of 190 tokens.
        let truth = 0.5 * f64::from((11..20).sum::<u32>()) / f64::from((1..20).sum::<u32>());
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let trials = 400;
        let resamples = Resamples::new(60);
        let covered = (0..trials)
            .filter(|_| {
                let estimate = resamples.estimates(&sample(&mut rng, 60))[0].unwrap();
                let (low, high) = estimate.interval.unwrap();
                assert!(low <= estimate.mean && estimate.mean <= high);
                (low..=high).contains(&truth)
            })
            .count();
        let share = covered as f64 / f64::from(trials);
        // A bootstrap of 60 responses covers slightly less than 0.95; four standard errors of 400 trials are 0.044.
        assert!((0.90..=0.985).contains(&share), "{share}");
    }

    #[test]
    fn a_constant_has_an_interval_of_width_0_and_one_response_has_none() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let estimates = Resamples::new(9).estimates(&sample(&mut rng, 9));
        let constant = estimates[1].unwrap();
        let (low, high) = constant.interval.unwrap();
        assert!((constant.mean - 3.0).abs() < 1e-12 && (high - low).abs() < 1e-9, "{constant:?}");
        let alone = Resamples::new(1).estimates(&sample(&mut rng, 1))[0].unwrap();
        assert_eq!(alone.interval, None);
    }

    #[test]
    fn columns_without_tokens_or_with_nan_have_no_estimate() {
        let empty = Sums { values: vec![0.0; 4], columns: 2, counts: vec![0.0; 2] };
        assert_eq!(Resamples::new(2).estimates(&empty), [None, None]);
        let unknown = Sums { values: vec![f64::NAN, 1.0, f64::NAN, 1.0], columns: 2, counts: vec![1.0; 2] };
        let estimates = Resamples::new(2).estimates(&unknown);
        assert!(estimates[0].is_none() && estimates[1].is_some());
    }

    #[test]
    fn columns_in_different_blocks_do_not_mix() {
        let columns = 3 * BLOCK + 5;
        let values: Vec<f64> = (0..4).flat_map(|_| (0..columns).map(|column| column as f64)).collect();
        let estimates = Resamples::new(4).estimates(&Sums { values, columns, counts: vec![1.0; 4] });
        assert_eq!(estimates.len(), columns);
        for (column, estimate) in estimates.iter().enumerate() {
            assert_eq!(estimate.unwrap().mean, column as f64);
        }
    }
}
