//! What is added up response by response.

use std::collections::BTreeMap;

use bupo_core::PolicySite;
use bupo_models::ResponseMeasures;

use crate::AnalysisError;
use crate::slice::{Slice, bucket_of};
use crate::statistic::{Statistic, at_token};

/// Values of a policy at each token.
pub(crate) const COLUMNS: usize = Statistic::PER_TOKEN.len();

/// Sums over each response's tokens, by position. What it takes does not grow with the responses' lengths, but for a bucket
/// each time they double.
#[derive(Debug, Clone, Default)]
pub struct MeasureAccumulator {
    sites: Vec<PolicySite>,
    responses: Vec<ResponseTally>,
}

#[derive(Debug, Clone)]
struct ResponseTally {
    /// By bucket of positions: how many tokens, and their sums `[sites * COLUMNS]`.
    buckets: Vec<(usize, Vec<f64>)>,
    /// By site; not a number for the full policy.
    participation: Vec<f64>,
    score: Option<f64>,
}

/// Sums of a slice by response, ready to be averaged.
pub(crate) struct Sums {
    /// `[responses, columns]`, row by row.
    pub(crate) values: Vec<f64>,
    pub(crate) columns: usize,
    /// What each response's sums are over.
    pub(crate) counts: Vec<f64>,
}

impl MeasureAccumulator {
    /// Adds a response, with what it is worth where that is known.
    ///
    /// # Errors
    /// If it was measured at other policies than those before it, or a policy's log-probs are not finite.
    pub fn push(&mut self, measures: &ResponseMeasures, score: Option<f64>) -> Result<(), AnalysisError> {
        let named = measures.sites.iter().map(|site| site.site).chain(measures.full.as_ref().map(|_| PolicySite::Full));
        if self.responses.is_empty() {
            self.sites = named.collect();
        } else if !named.eq(self.sites.iter().copied()) {
            return Err(AnalysisError::OtherSites(self.responses.len() + 1));
        }
        let policies: Vec<_> = measures
            .sites
            .iter()
            .map(|site| (&site.policy, Some(site)))
            .chain(measures.full.as_ref().map(|full| (full, None)))
            .collect();
        for (site, (policy, _)) in self.sites.iter().zip(&policies) {
            // Entropies and divergences are clamped, which makes numbers of what is none; log-probs are not.
            if policy.log_probs.iter().any(|log_prob| !log_prob.is_finite()) {
                return Err(AnalysisError::NotFinite { site: *site, response: self.responses.len() + 1 });
            }
        }
        let tokens = policies.first().map_or(0, |(policy, _)| policy.entropy.len());
        let mut buckets: Vec<(usize, Vec<f64>)> = Vec::new();
        for token in 0..tokens {
            let bucket = bucket_of(token);
            if bucket == buckets.len() {
                buckets.push((0, vec![0.0; policies.len() * COLUMNS]));
            }
            let (count, sums) = &mut buckets[bucket];
            *count += 1;
            for ((policy, site), sums) in policies.iter().zip(sums.chunks_exact_mut(COLUMNS)) {
                for (sum, value) in sums.iter_mut().zip(at_token(policy, *site, token)) {
                    *sum += value;
                }
            }
        }
        let participation = policies.iter().map(|(_, site)| site.map_or(f64::NAN, |site| site.participation)).collect();
        self.responses.push(ResponseTally { buckets, participation, score });
        Ok(())
    }

    /// How many responses were added.
    pub fn responses(&self) -> usize {
        self.responses.len()
    }

    /// How many tokens they have.
    pub fn tokens(&self) -> usize {
        self.responses.iter().flat_map(|response| &response.buckets).map(|(count, _)| count).sum()
    }

    /// What the responses are worth, those of which it is known.
    pub fn scores(&self) -> impl Iterator<Item = f64> + '_ {
        self.responses.iter().filter_map(|response| response.score)
    }

    /// The policies measured, in the order of the measures.
    pub fn sites(&self) -> &[PolicySite] {
        &self.sites
    }

    /// Means of a statistic over all tokens, by policy that has it.
    pub fn means(&self, statistic: Statistic) -> BTreeMap<String, f64> {
        let sums = match statistic {
            Statistic::Participation => self.participation(),
            _ => self.sums(Slice::All),
        };
        let total: f64 = sums.counts.iter().sum();
        let column = Statistic::PER_TOKEN.iter().position(|other| *other == statistic);
        let per_site = sums.columns / self.sites.len().max(1);
        let mean = |site: usize| {
            let at = site * per_site + column.unwrap_or(0);
            sums.values.chunks_exact(sums.columns).map(|row| row[at]).sum::<f64>() / total
        };
        let named = self.sites.iter().enumerate().map(|(index, site)| (site.to_string(), mean(index)));
        named.filter(|(_, mean)| mean.is_finite()).collect()
    }

    /// The slices that have tokens, all first.
    pub(crate) fn slices(&self) -> Vec<Slice> {
        let buckets = self.responses.iter().map(|response| response.buckets.len()).max().unwrap_or(0);
        let scored = [Slice::Correct, Slice::Incorrect]
            .into_iter()
            .filter(|slice| self.responses.iter().any(|response| response.score.is_some() && response.within(*slice)));
        std::iter::once(Slice::All).chain((0..buckets).map(Slice::bucket)).chain(scored).collect()
    }

    /// Sums over a slice, [`COLUMNS`] a site.
    pub(crate) fn sums(&self, slice: Slice) -> Sums {
        let columns = self.sites.len() * COLUMNS;
        let mut sums = Sums { values: Vec::with_capacity(self.responses.len() * columns), columns, counts: Vec::new() };
        for response in &self.responses {
            let mut row = vec![0.0; columns];
            let mut count = 0;
            for (bucket, (tokens, values)) in response.buckets.iter().enumerate() {
                let taken = match slice {
                    Slice::Positions { .. } => Slice::bucket(bucket) == slice,
                    _ => response.within(slice),
                };
                if taken {
                    count += tokens;
                    row.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
            sums.values.extend(row);
            sums.counts.push(count as f64);
        }
        sums
    }

    /// The participation ratios, one column a site.
    pub(crate) fn participation(&self) -> Sums {
        Sums {
            values: self.responses.iter().flat_map(|response| response.participation.clone()).collect(),
            columns: self.sites.len(),
            counts: vec![1.0; self.responses.len()],
        }
    }
}

impl ResponseTally {
    /// Whether all of its tokens are in a slice of whole responses.
    fn within(&self, slice: Slice) -> bool {
        match slice {
            Slice::Correct => self.score.is_some_and(|score| score > 0.5),
            Slice::Incorrect => self.score.is_some_and(|score| score <= 0.5),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use bupo_core::PolicyComparison;

    use super::*;

    #[test]
    fn what_has_overflowed_is_refused() {
        let measured = |log_prob: f32| {
            let full = PolicyComparison {
                entropy: vec![0.0],
                log_probs: vec![log_prob],
                ranks: vec![1],
                divergence: Some(Default::default()),
            };
            ResponseMeasures { sites: Vec::new(), full: Some(full) }
        };
        for log_prob in [f32::NAN, f32::NEG_INFINITY] {
            let refused = MeasureAccumulator::default().push(&measured(log_prob), None);
            assert!(matches!(refused, Err(AnalysisError::NotFinite { site: PolicySite::Full, response: 1 })));
        }
    }
}
