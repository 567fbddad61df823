//! What a policy says beside the full policy, and how states lie to one another.

mod beside;

use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use crate::InternalPolicy;
use crate::kernels::add;
use crate::policy::token_tensor;
use crate::profile::{Part, timed};
use crate::unembed::fold::Fold;
use beside::{Beside, compare_chunk};

/// What a policy says at each place, and how far that is from what the full policy says there. Nats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyComparison {
    /// Entropies, from 0 to ln V.
    pub entropy: Vec<f32>,
    /// Log-probabilities of the given tokens.
    pub log_probs: Vec<f32>,
    /// Ranks of the given tokens: 1 plus the number of tokens that are more probable.
    pub ranks: Vec<u32>,
    /// The full policy beside it, where it was asked for.
    pub beside_full: Option<BesideFull>,
}

/// A policy beside the full one at the same places. Nats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BesideFull {
    /// Whether the most probable token is the full policy's.
    pub agrees: Vec<bool>,
    /// KL(policy || full).
    pub kl: Vec<f32>,
    /// KL(full || policy).
    pub reverse_kl: Vec<f32>,
    /// Jensen-Shannon divergence, from 0 to ln 2.
    pub js: Vec<f32>,
}

/// Where the logits of a site come from. Without a norm between a state and the unembedding logits add up as states do,
/// `logits(H^l) = logits(H^(l-1)) + logits(A^l) + logits(F^l)`, so that two products of a layer serve three sites.
#[derive(Debug, Clone)]
pub enum SiteLogits<B: Backend> {
    /// A product of their own.
    Own(InternalPolicy<B>),
    /// A product of their own, which is also added to what has been added so far.
    Part(InternalPolicy<B>),
    /// What has been added so far.
    Sum,
}

impl<B: Backend> InternalPolicy<B> {
    /// What each site says of `targets`, one per place, beside the policy `full` at the same places where one is given. The
    /// full policy's logits are computed once for all, and no more than a chunk of a few policies' is ever held.
    ///
    /// # Panics
    /// If a policy has not as many states as there are targets, or a target is outside the vocabulary.
    pub fn compare(sites: &[SiteLogits<B>], full: Option<&Self>, targets: &[u32]) -> Vec<PolicyComparison> {
        let policies = || sites.iter().filter_map(SiteLogits::policy).chain(full);
        let device = policies().next().map(|policy| policy.states.device()).unwrap_or_default();
        policies().for_each(|policy| policy.check_targets(targets));
        let blank = PolicyComparison { beside_full: full.map(|_| BesideFull::default()), ..Default::default() };
        let mut compared = vec![blank; sites.len()];
        let Some(first) = policies().next() else { return compared };
        let compare = || {
            for rows in first.chunks() {
                let targets = &targets[rows.clone()];
                let full = full.map(|full| Beside::new(full.logits(rows.clone())));
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
    /// If the policies have not as many states each.
    pub fn entropies(sites: &[SiteLogits<B>]) -> Vec<Vec<f32>> {
        let device = sites.iter().find_map(SiteLogits::policy).map(|policy| policy.states.device());
        timed::<B, _>(Part::Unembedding, &device.unwrap_or_default(), || Self::all_entropies(sites))
    }

    fn all_entropies(sites: &[SiteLogits<B>]) -> Vec<Vec<f32>> {
        let mut entropies = vec![Vec::new(); sites.len()];
        let first = sites.iter().find_map(SiteLogits::policy);
        for rows in first.into_iter().flat_map(Self::chunks) {
            each_logits(sites, &rows, |site, logits| {
                let mut fold = Fold::new(rows.len(), 1.0, &logits);
                fold.read(logits, 0, None);
                entropies[site].extend(fold.entropy());
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

/// Hands every site's logits at some places to `f`, in order.
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
            SiteLogits::Sum => sum.clone().unwrap_or_else(|| panic!("a sum has parts before it")),
        };
        f(index, logits);
    }
}

impl PolicyComparison {
    /// The values at some places.
    pub fn part(&self, places: Range<usize>) -> Self {
        Self {
            entropy: self.entropy[places.clone()].to_vec(),
            log_probs: self.log_probs[places.clone()].to_vec(),
            ranks: self.ranks[places.clone()].to_vec(),
            beside_full: self.beside_full.as_ref().map(|beside| BesideFull {
                agrees: beside.agrees[places.clone()].to_vec(),
                kl: beside.kl[places.clone()].to_vec(),
                reverse_kl: beside.reverse_kl[places.clone()].to_vec(),
                js: beside.js[places].to_vec(),
            }),
        }
    }
}

/// The cosine of each state of `a` with the one of `b` at the same place, both `[tokens, hidden]`; 0 where either is 0.
pub fn cosines<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Vec<f32> {
    let unit = |states: Tensor<B, 2>| {
        let states = states.cast(DType::F32);
        let length = lengths(states.clone()).clamp_min(f32::MIN_POSITIVE);
        states / length
    };
    (unit(a) * unit(b)).sum_dim(1).clamp(-1.0, 1.0).into_data().iter::<f32>().collect()
}

/// The Euclidean norm of each state `[tokens, hidden]`.
pub fn norms<B: Backend>(states: Tensor<B, 2>) -> Vec<f32> {
    lengths(states.cast(DType::F32)).into_data().iter::<f32>().collect()
}

/// Euclidean lengths, `[tokens, 1]`, by way of the largest entry so that squares cannot overflow.
fn lengths<B: Backend>(states: Tensor<B, 2>) -> Tensor<B, 2> {
    let largest = states.clone().abs().max_dim(1).clamp_min(f32::MIN_POSITIVE);
    (states / largest.clone()).powf_scalar(2.0).sum_dim(1).sqrt() * largest
}

/// How many directions each group of states spreads over: the participation ratio (tr C)^2 / tr C^2 of their covariance C,
/// from 1 to the smaller of hidden and the group's size - 1; 0 where they do not spread. Of `states` `[tokens, hidden]`,
/// the groups are one after the other, of `lengths` states.
pub fn participation_ratios<B: Backend>(states: Tensor<B, 2>, lengths: &[usize]) -> Vec<f64> {
    let (groups, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    if longest == 0 {
        return vec![0.0; groups];
    }
    let (hidden, device) = (states.dims()[1], states.device());
    // Groups padded to one length by their first states, which the mask makes nothing of.
    let starts = lengths.iter().scan(0, |start, length| Some(std::mem::replace(start, *start + length)));
    let (mut index, mut mask) = (Vec::new(), Vec::new());
    for (start, length) in starts.zip(lengths) {
        index.extend((0..longest).map(|i| if i < *length { (start + i) as u32 } else { 0 }));
        mask.extend((0..longest).map(|i| if i < *length { 1.0_f32 } else { 0.0 }));
    }
    let mask = Tensor::<B, 3>::from_data(TensorData::new(mask, [groups, longest, 1]), &device);
    let sizes: Vec<f32> = lengths.iter().map(|length| (*length).max(1) as f32).collect();
    let sizes = Tensor::<B, 3>::from_data(TensorData::new(sizes, [groups, 1, 1]), &device);
    let grouped = states.cast(DType::F32).select(0, token_tensor(&index, &device));
    let grouped = grouped.reshape([groups, longest, hidden]) * mask.clone();
    let centred = (grouped.clone() - grouped.sum_dim(1) / sizes) * mask;
    let scale = centred.clone().abs().max_dim(2).max_dim(1).clamp_min(f32::MIN_POSITIVE);
    let centred = centred / scale;
    // Both products have the same trace and the same sum of squares; the smaller one is made.
    let gram = if longest < hidden {
        centred.clone().matmul(centred.clone().transpose())
    } else {
        centred.clone().transpose().matmul(centred.clone())
    };
    let total = |values: Tensor<B, 3>| values.powf_scalar(2.0).sum_dim(2).sum_dim(1).reshape([groups, 1]);
    let values: Vec<f64> = Tensor::cat(vec![total(centred), total(gram)], 1).into_data().iter::<f64>().collect();
    values.chunks_exact(2).map(|pair| if pair[1] > 0.0 { pair[0] * pair[0] / pair[1] } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use burn::backend::{Flex, NdArray};

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
    fn every_statistic_is_that_of_its_definition_whatever_the_chunk() {
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
                let beside = compared.beside_full.clone().unwrap_or_default();
                assert_eq!(alone, PolicyComparison { beside_full: None, ..compared.clone() });
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
                    close(beside.kl[place], kl(&p, &q), "kl");
                    close(beside.reverse_kl[place], kl(&q, &p), "reverse kl");
                    close(beside.js[place], (kl(&p, &mean) + kl(&q, &mean)) / 2.0, "js");
                    assert_eq!(
                        compared.ranks[place] as usize,
                        1 + p.iter().filter(|other| **other > p[target]).count()
                    );
                    assert_eq!(beside.agrees[place], best(&p) == best(&q));
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
    fn a_policy_beside_itself_is_the_same() {
        let unembedding = numbers(VOCAB * HIDDEN, 0.7, 30.0);
        let full = policy::<Flex>(&numbers(TOKENS * HIDDEN, 3.1, 30.0), &unembedding, 2);
        let [same] = &InternalPolicy::compare(&[SiteLogits::Own(full.clone())], Some(&full), &TARGETS)[..] else {
            panic!("one policy was compared");
        };
        let beside = same.beside_full.clone().unwrap_or_default();
        assert!(beside.kl.iter().chain(&beside.reverse_kl).all(|d| *d == 0.0), "{same:?}");
        // The logarithm of the mean is rounded.
        assert!(beside.js.iter().all(|d| *d < 1e-6), "{same:?}");
        assert!(beside.agrees == [true; TOKENS]);
        assert_eq!(same.entropy, full.entropy());
    }

    #[test]
    fn divergences_of_policies_that_share_nothing_are_bounded_where_they_must_be() {
        let device = Default::default();
        let states = |sign: f32| Tensor::<Flex, 2>::from_floats([[sign * 400.0, 0.0]], &device);
        let unembedding = Tensor::from_floats([[1.0, 0.0], [-1.0, 0.0]], &device);
        let of = |sign| InternalPolicy::new(states(sign), unembedding.clone());
        let compared = &InternalPolicy::compare(&[SiteLogits::Own(of(1.0))], Some(&of(-1.0)), &[1])[0];
        let beside = compared.beside_full.clone().unwrap_or_default();
        assert_eq!((beside.js[0], compared.ranks[0], beside.agrees[0]), (std::f32::consts::LN_2, 2, false));
        assert_eq!((beside.kl[0], beside.reverse_kl[0], compared.entropy[0]), (800.0, 800.0, 0.0));
    }

    #[test]
    fn cosines_and_norms_are_those_of_their_definitions() {
        let device = Default::default();
        let a = Tensor::<Flex, 2>::from_floats([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [1e30, 0.0]], &device);
        let b = Tensor::from_floats([[6.0, 8.0], [-2.0, 0.0], [1.0, 1.0], [1e30, 1e30]], &device);
        let expected = [1.0, -1.0, 0.0, 0.5_f32.sqrt()];
        for (ours, expected) in cosines(a.clone(), b).iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-6, "{ours} for {expected}");
        }
        assert_eq!(norms(a), [5.0, 1.0, 0.0, 1e30]);
    }

    #[test]
    fn states_spread_over_as_many_directions_as_they_have() {
        let device = Default::default();
        let ratio = |states: &[&[f64]]| {
            let shape = [states.len(), states[0].len()];
            let alone = Tensor::<Flex, 2>::from_data(TensorData::new(states.concat(), shape), &device);
            // Groups of other lengths beside it change nothing.
            let beside = Tensor::cat(vec![alone.clone().narrow(0, 0, 1) * 7.0, alone.clone(), alone.clone()], 0);
            let ratios = participation_ratios(beside, &[1, states.len(), 0, states.len()]);
            assert_eq!((ratios[0], ratios[1], ratios[2]), (0.0, ratios[3], 0.0));
            assert_eq!(ratios[1], participation_ratios(alone, &[states.len()])[0]);
            ratios[1]
        };
        let near = |ours: f64, expected: f64| assert!((ours - expected).abs() < 1e-4, "{ours} for {expected}");
        near(ratio(&[&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]]), 0.0);
        near(ratio(&[&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]]), 1.0);
        // A square: two directions of equal spread, from either side of the product.
        near(ratio(&[&[1.0, 0.0], &[-1.0, 0.0], &[0.0, 1.0], &[0.0, -1.0]]), 2.0);
        near(
            ratio(&[
                &[5.0, 0.0, 9.0, 9.0, 9.0],
                &[-5.0, 0.0, 9.0, 9.0, 9.0],
                &[0.0, 5.0, 9.0, 9.0, 9.0],
                &[0.0, -5.0, 9.0, 9.0, 9.0],
            ]),
            2.0,
        );
        // Spread of 4 and 1: (4 + 1)^2 / (16 + 1).
        near(ratio(&[&[2.0, 0.0], &[-2.0, 0.0], &[0.0, 1.0], &[0.0, -1.0]]), 25.0 / 17.0);
    }
}
