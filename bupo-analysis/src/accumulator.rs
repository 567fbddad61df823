//! Sums of the measures, per response.

use std::collections::BTreeMap;

use bupo_core::PolicySite;
use bupo_models::ResponseMeasures;

use crate::AnalysisError;
use crate::slice::{Slice, bucket_of};
use crate::statistic::{Measured, Statistic, at_token};

/// Values per policy and token.
pub(crate) const COLUMNS: usize = Statistic::PER_TOKEN.len();

/// Sums over each response's tokens, by position bucket. The memory per response grows with the logarithm of its length.
#[derive(Debug, Clone, Default)]
pub struct MeasureAccumulator {
    sites: Vec<PolicySite>,
    responses: Vec<ResponseSums>,
}

#[derive(Debug, Clone)]
struct ResponseSums {
    /// By position bucket: the number of tokens and their sums `[sites * COLUMNS]`.
    buckets: Vec<(usize, Vec<f64>)>,
    /// By site; NaN for the full policy.
    participation: Vec<f64>,
    score: Option<f64>,
}

/// Sums over a slice, per response.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    /// `[responses, columns]`, row-major.
    pub(crate) values: Vec<f64>,
    pub(crate) columns: usize,
    /// The number of summed values, per response.
    pub(crate) counts: Vec<f64>,
}

impl MeasureAccumulator {
    /// Adds a response with its score, if it has one.
    ///
    /// # Errors
    /// If the measured policies differ from those of earlier responses, or a policy's log-probs are not finite.
    pub fn push(&mut self, measures: &ResponseMeasures, score: Option<f64>) -> Result<(), AnalysisError> {
        let named = measures.sites.iter().map(|site| site.site).chain(measures.full.as_ref().map(|_| PolicySite::Full));
        if self.responses.is_empty() {
            self.sites = named.collect();
        } else if !named.eq(self.sites.iter().copied()) {
            return Err(AnalysisError::OtherSites(self.responses.len() + 1));
        }
        let sites = measures.sites.iter();
        let sites = sites.map(|site| Measured {
            policy: &site.policy,
            site: Some(site),
            attribution: site.attribution.as_ref(),
        });
        let full = measures.full.as_ref();
        let full = full.map(|policy| Measured { policy, site: None, attribution: measures.logits.as_ref() });
        let policies: Vec<Measured<'_>> = sites.chain(full).collect();
        for (site, Measured { policy, .. }) in self.sites.iter().zip(&policies) {
            // Entropies and divergences are clamped, which hides NaN; log-probs are not clamped.
            if policy.log_probs.iter().any(|log_prob| !log_prob.is_finite()) {
                return Err(AnalysisError::NotFinite { site: *site, response: self.responses.len() + 1 });
            }
        }
        let tokens = policies.first().map_or(0, |measured| measured.policy.entropy.len());
        let mut buckets: Vec<(usize, Vec<f64>)> = Vec::new();
        for token in 0..tokens {
            let bucket = bucket_of(token);
            if bucket == buckets.len() {
                buckets.push((0, vec![0.0; policies.len() * COLUMNS]));
            }
            let (count, sums) = &mut buckets[bucket];
            *count += 1;
            for (measured, sums) in policies.iter().zip(sums.chunks_exact_mut(COLUMNS)) {
                for (sum, value) in sums.iter_mut().zip(at_token(*measured, token)) {
                    *sum += value;
                }
            }
        }
        let participation =
            policies.iter().map(|measured| measured.site.map_or(f64::NAN, |site| site.participation)).collect();
        self.responses.push(ResponseSums { buckets, participation, score });
        Ok(())
    }

    /// The number of responses.
    pub fn responses(&self) -> usize {
        self.responses.len()
    }

    /// The number of response tokens.
    pub fn tokens(&self) -> usize {
        self.responses.iter().flat_map(|response| &response.buckets).map(|(count, _)| count).sum()
    }

    /// The scores of the responses that have one.
    pub fn scores(&self) -> impl Iterator<Item = f64> + '_ {
        self.responses.iter().filter_map(|response| response.score)
    }

    /// The measured policies, in the order of the measures.
    pub fn sites(&self) -> &[PolicySite] {
        &self.sites
    }

    /// Means of a statistic of tokens, or of participation ratios, by policy. Policies without the statistic are absent.
    pub fn means(&self, statistic: Statistic) -> BTreeMap<String, f64> {
        let column = Statistic::PER_TOKEN.iter().position(|other| *other == statistic);
        let (sums, column) = match (column, statistic) {
            (Some(column), _) => (self.sums(Slice::All), column),
            (None, Statistic::Participation) => (self.participation(), 0),
            (None, _) => return BTreeMap::new(),
        };
        let total: f64 = sums.counts.iter().sum();
        let per_site = sums.columns / self.sites.len().max(1);
        let mean = |site: usize| {
            let at = site * per_site + column;
            sums.values.chunks_exact(sums.columns).map(|row| row[at]).sum::<f64>() / total
        };
        let named = self.sites.iter().enumerate().map(|(index, site)| (site.to_string(), mean(index)));
        named.filter(|(_, mean)| mean.is_finite()).collect()
    }

    /// The slices that have tokens; [`Slice::All`] is the first.
    pub(crate) fn slices(&self) -> Vec<Slice> {
        let buckets = self.responses.iter().map(|response| response.buckets.len()).max().unwrap_or(0);
        let scored = [Slice::Correct, Slice::Incorrect]
            .into_iter()
            .filter(|slice| self.responses.iter().any(|response| response.score.is_some() && response.is_in(*slice)));
        std::iter::once(Slice::All).chain((0..buckets).map(Slice::bucket)).chain(scored).collect()
    }

    /// Sums over a slice, [`COLUMNS`] per site.
    pub(crate) fn sums(&self, slice: Slice) -> Sums {
        let columns = self.sites.len() * COLUMNS;
        let mut sums = Sums { values: Vec::with_capacity(self.responses.len() * columns), columns, counts: Vec::new() };
        for response in &self.responses {
            let mut row = vec![0.0; columns];
            let mut count = 0;
            for (bucket, (tokens, values)) in response.buckets.iter().enumerate() {
                let included = match slice {
                    Slice::Positions { .. } => Slice::bucket(bucket) == slice,
                    _ => response.is_in(slice),
                };
                if included {
                    count += tokens;
                    row.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
            sums.values.extend(row);
            sums.counts.push(count as f64);
        }
        sums
    }

    /// The participation ratios, one column per site.
    pub(crate) fn participation(&self) -> Sums {
        Sums {
            values: self.responses.iter().flat_map(|response| response.participation.clone()).collect(),
            columns: self.sites.len(),
            counts: vec![1.0; self.responses.len()],
        }
    }
}

impl ResponseSums {
    /// Whether the response is in a slice of whole responses.
    fn is_in(&self, slice: Slice) -> bool {
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
    fn log_probs_that_are_not_finite_are_an_error() {
        let measures = |log_prob: f32| {
            let full = PolicyComparison {
                entropy: vec![0.0],
                log_probs: vec![log_prob],
                ranks: vec![1],
                divergence: Some(Default::default()),
            };
            ResponseMeasures { sites: Vec::new(), full: Some(full), logits: None }
        };
        for log_prob in [f32::NAN, f32::NEG_INFINITY] {
            let result = MeasureAccumulator::default().push(&measures(log_prob), None);
            assert!(matches!(result, Err(AnalysisError::NotFinite { site: PolicySite::Full, response: 1 })));
        }
    }
}
