//! The policies of several sites compared with the full policy at the same positions.

use std::ops::Range;

use burn::tensor::{Tensor, backend::Backend};

use super::divergence::{FullPolicy, FullPolicyDivergence, PolicyComparison, compare_chunk};
use super::internal_policy::InternalPolicy;
use super::online_softmax::OnlineSoftmax;
use crate::kernels::add;
use crate::profile::{Part, timed};

/// How the logits of a site are computed. Without a norm before the unembedding, logits add up as states do,
/// `logits(H^l) = logits(H^(l-1)) + logits(A^l) + logits(F^l)`, so two products per layer give the logits of three
/// sites.
#[derive(Debug, Clone)]
pub enum SiteLogits<B: Backend> {
    /// From a product of its own.
    Own(InternalPolicy<B>),
    /// From a product of its own, which is also added to the running sum.
    Part(InternalPolicy<B>),
    /// The running sum of the parts so far.
    Sum,
}

impl<B: Backend> InternalPolicy<B> {
    /// The statistics of each site's policy at `targets`, one per state, compared with the policy `full` of the same
    /// positions if it is given. The full policy's logits are computed once, and logits are held for one chunk of a few
    /// policies at a time.
    ///
    /// # Panics
    /// If a policy does not have one state per target, a target is outside the vocabulary, or [`SiteLogits::Sum`] comes
    /// before every [`SiteLogits::Part`].
    pub fn compare(sites: &[SiteLogits<B>], full: Option<&Self>, targets: &[u32]) -> Vec<PolicyComparison> {
        let policies = || sites.iter().filter_map(SiteLogits::policy).chain(full);
        let device = policies().next().map(|policy| policy.states.device()).unwrap_or_default();
        policies().for_each(|policy| policy.check_targets(targets));
        let blank =
            PolicyComparison { divergence: full.map(|_| FullPolicyDivergence::default()), ..Default::default() };
        let mut compared = vec![blank; sites.len()];
        let Some(first) = policies().next() else { return compared };
        let compare = || {
            for rows in first.chunks() {
                let targets = &targets[rows.clone()];
                let full = full.map(|full| FullPolicy::new(full.logits(rows.clone())));
                each_logits(sites, &rows, |site, logits| {
                    compare_chunk(logits, full.as_ref(), targets, &mut compared[site]);
                });
            }
        };
        timed::<B, _>(Part::Unembedding, &device, compare);
        compared
    }

    /// The entropies of each site at each state, in nats.
    ///
    /// # Panics
    /// If the policies differ in their number of states, or [`SiteLogits::Sum`] comes before every
    /// [`SiteLogits::Part`].
    pub fn entropies(sites: &[SiteLogits<B>]) -> Vec<Vec<f32>> {
        let device = sites.iter().find_map(SiteLogits::policy).map(|policy| policy.states.device());
        timed::<B, _>(Part::Unembedding, &device.unwrap_or_default(), || Self::all_entropies(sites))
    }

    fn all_entropies(sites: &[SiteLogits<B>]) -> Vec<Vec<f32>> {
        let mut entropies = vec![Vec::new(); sites.len()];
        let first = sites.iter().find_map(SiteLogits::policy);
        for rows in first.into_iter().flat_map(Self::chunks) {
            each_logits(sites, &rows, |site, logits| {
                let mut softmax = OnlineSoftmax::new(rows.len(), 1.0, &logits);
                softmax.read(logits, 0, None);
                entropies[site].extend(softmax.entropy());
            });
        }
        entropies
    }
}

impl<B: Backend> SiteLogits<B> {
    fn policy(&self) -> Option<&InternalPolicy<B>> {
        match self {
            Self::Own(policy) | Self::Part(policy) => Some(policy),
            Self::Sum => None,
        }
    }
}

/// Calls `f` with the index and the logits of each site, in order, for a range of states.
fn each_logits<B: Backend>(sites: &[SiteLogits<B>], rows: &Range<usize>, mut f: impl FnMut(usize, Tensor<B, 2>)) {
    let mut sum: Option<Tensor<B, 2>> = None;
    for (index, site) in sites.iter().enumerate() {
        let logits = match site {
            SiteLogits::Own(policy) => policy.logits(rows.clone()),
            SiteLogits::Part(policy) => {
                let logits = policy.logits(rows.clone());
                sum = Some(match sum.take() {
                    Some(sum) => add(sum, &logits),
                    None => logits.clone(),
                });
                logits
            }
            SiteLogits::Sum => sum.clone().unwrap_or_else(|| panic!("a sum comes after its parts")),
        };
        f(index, logits);
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Flex, NdArray};

    use burn::tensor::TensorData;

    use super::*;

    const TOKENS: usize = 6;
    const HIDDEN: usize = 4;
    const VOCAB: usize = 9;
    const TARGETS: [u32; TOKENS] = [0, 8, 3, 3, 1, 5];

    fn numbers(count: usize, seed: f64, size: f64) -> Vec<f64> {
        (0..count).map(|i| ((i as f64 + seed) * 78.233).sin() * size).collect()
    }

    fn matrix<B: Backend>(values: &[f64], shape: [usize; 2]) -> Tensor<B, 2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Default::default())
    }

    fn policy<B: Backend>(states: &[f64], unembedding: &[f64], rows: usize) -> InternalPolicy<B> {
        let policy = InternalPolicy::new(matrix(states, [TOKENS, HIDDEN]), matrix(unembedding, [VOCAB, HIDDEN]));
        InternalPolicy { logits_at_once: rows * VOCAB, ..policy }
    }

    /// Log-probs of one state in f64.
    fn logs(state: &[f64], unembedding: &[f64]) -> Vec<f64> {
        let logits: Vec<f64> =
            unembedding.chunks(HIDDEN).map(|row| row.iter().zip(state).map(|(a, b)| a * b).sum()).collect();
        let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        logits.iter().map(|logit| logit - log_sum).collect()
    }

    #[test]
    fn every_statistic_matches_its_definition_for_every_chunk_size() {
        check_statistics::<Flex>();
        check_statistics::<NdArray>();
    }

    fn check_statistics<B: Backend>() {
        let unembedding = numbers(VOCAB * HIDDEN, 0.7, 1.5);
        let full_states = numbers(TOKENS * HIDDEN, 3.1, 2.0);
        let sites = [numbers(TOKENS * HIDDEN, 9.4, 0.3), numbers(TOKENS * HIDDEN, 5.5, 3.0)];
        for rows in [1, 4, 100] {
            let policies: Vec<_> =
                sites.iter().map(|states| SiteLogits::Own(policy::<B>(states, &unembedding, rows))).collect();
            let compared =
                InternalPolicy::compare(&policies, Some(&policy(&full_states, &unembedding, rows)), &TARGETS);
            let alone = InternalPolicy::compare(&policies, None, &TARGETS);
            for ((states, compared), alone) in sites.iter().zip(compared).zip(alone) {
                let divergence = compared.divergence.clone().unwrap_or_default();
                assert_eq!(alone, PolicyComparison { divergence: None, ..compared.clone() });
                for (place, target) in TARGETS.into_iter().enumerate() {
                    let at = |states: &[f64]| logs(&states[place * HIDDEN..(place + 1) * HIDDEN], &unembedding);
                    let (p, q) = (at(states), at(&full_states));
                    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
                    let mean: Vec<f64> = p.iter().zip(&q).map(|(p, q)| ((p.exp() + q.exp()) / 2.0).ln()).collect();
                    let best = |p: &[f64]| (0..VOCAB).max_by(|a, b| p[*a].total_cmp(&p[*b]));
                    let target = target as usize;
                    let close = |ours: f32, expected: f64, what: &str| {
                        assert!((f64::from(ours) - expected).abs() < 1e-5, "{what} at {place}: {ours} for {expected}");
                    };
                    close(compared.entropy[place], -p.iter().map(|p| p.exp() * p).sum::<f64>(), "entropy");
                    close(compared.log_probs[place], p[target], "log-prob");
                    close(divergence.kl[place], kl(&p, &q), "kl");
                    close(divergence.reverse_kl[place], kl(&q, &p), "reverse kl");
                    close(divergence.js[place], (kl(&p, &mean) + kl(&q, &mean)) / 2.0, "js");
                    assert_eq!(
                        compared.ranks[place] as usize,
                        1 + p.iter().filter(|other| **other > p[target]).count()
                    );
                    assert_eq!(divergence.agrees[place], best(&p) == best(&q));
                }
            }
        }
    }

    #[test]
    fn logits_of_parts_add_up() {
        let unembedding = numbers(VOCAB * HIDDEN, 0.7, 1.5);
        let states = [0.3, 8.8, 2.2].map(|seed| numbers(TOKENS * HIDDEN, seed, 1.0));
        let whole: Vec<f64> = (0..TOKENS * HIDDEN).map(|i| states.iter().map(|states| states[i]).sum()).collect();
        let [a, b, c] = states.map(|states| SiteLogits::Part(policy::<Flex>(&states, &unembedding, 4)));
        let sites = [a, b, SiteLogits::Sum, c, SiteLogits::Sum, SiteLogits::Own(policy(&whole, &unembedding, 4))];
        let compared = InternalPolicy::compare(&sites, None, &TARGETS);
        assert_ne!(compared[2], compared[4]);
        for (entropies, compared) in InternalPolicy::entropies(&sites).iter().zip(&compared) {
            assert!(entropies.iter().zip(&compared.entropy).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        for (sum, own) in compared[4].log_probs.iter().zip(&compared[5].log_probs) {
            assert!((sum - own).abs() < 1e-5, "{sum} for {own}");
        }
    }

    #[test]
    fn a_policy_compared_with_itself_has_no_divergence() {
        let unembedding = numbers(VOCAB * HIDDEN, 0.7, 30.0);
        let full = policy::<Flex>(&numbers(TOKENS * HIDDEN, 3.1, 30.0), &unembedding, 2);
        let [same] = &InternalPolicy::compare(&[SiteLogits::Own(full.clone())], Some(&full), &TARGETS)[..] else {
            panic!("one policy was compared");
        };
        let divergence = same.divergence.clone().unwrap_or_default();
        assert!(divergence.kl.iter().chain(&divergence.reverse_kl).all(|d| *d == 0.0), "{same:?}");
        // Not exactly 0: the logarithm of the mean is rounded.
        assert!(divergence.js.iter().all(|d| *d < 1e-6), "{same:?}");
        assert!(divergence.agrees == [true; TOKENS]);
        // Their logits are products of other sizes, rounded otherwise.
        assert!(same.entropy.iter().zip(full.entropy()).all(|(a, b)| (a - b).abs() < 1e-5), "{same:?}");
    }

    #[test]
    fn divergences_of_disjoint_policies_are_finite() {
        let device = Default::default();
        let states = |sign: f32| Tensor::<Flex, 2>::from_floats([[sign * 400.0, 0.0]], &device);
        let unembedding = Tensor::from_floats([[1.0, 0.0], [-1.0, 0.0]], &device);
        let of = |sign| InternalPolicy::new(states(sign), unembedding.clone());
        let compared = &InternalPolicy::compare(&[SiteLogits::Own(of(1.0))], Some(&of(-1.0)), &[1])[0];
        let divergence = compared.divergence.clone().unwrap_or_default();
        assert_eq!((divergence.js[0], compared.ranks[0], divergence.agrees[0]), (std::f32::consts::LN_2, 2, false));
        assert_eq!((divergence.kl[0], divergence.reverse_kl[0], compared.entropy[0]), (800.0, 800.0, 0.0));
    }
}
