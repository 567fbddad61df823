//! Restrictions of the tokens that may be sampled: repetition penalty, top-k, top-p and min-p.

use std::borrow::Cow;

use super::row_logits::RowLogits;
use crate::CoreError;
use crate::kernels::host::{exp, max, sum, vectorized};

/// Tokens whose largest logit bounds the k-th largest of all from below.
const BLOCK: usize = 256;

/// Restrictions of the tokens that may be sampled, with the names and meanings of transformers and vLLM. The default is
/// none.
///
/// Applied in the order of transformers: repetition penalty, temperature, top-k, top-p, min-p. Probabilities of the
/// tokens that remain are renormalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingParams {
    /// Only the `top_k` most probable tokens, and those as probable as the last of them; 0 for all.
    pub top_k: usize,
    /// Only the smallest set of most probable tokens whose probabilities sum to at least `top_p`; 1 for all. The lower
    /// id comes first among equally probable tokens.
    pub top_p: f64,
    /// Only tokens at least `min_p` times as probable as the most probable one; 0 for all.
    pub min_p: f64,
    /// Positive logits of tokens that occur in the prompt or the response so far are divided by it, negative ones
    /// multiplied; 1 for no change (arXiv 1909.05858).
    pub repetition_penalty: f64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self { top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl SamplingParams {
    /// Checks the ranges of the values.
    ///
    /// # Errors
    /// If a value is out of range.
    pub fn check(&self) -> Result<(), CoreError> {
        let wrong = |name, value, range| Err(CoreError::SamplingParam { name, value, range });
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", self.top_p, "above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return wrong("min_p", self.min_p, "from 0 to 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return wrong("repetition_penalty", self.repetition_penalty, "positive");
        }
        Ok(())
    }

    /// Whether sampling differs from sampling the policy itself.
    pub fn is_active(&self) -> bool {
        *self != Self::default()
    }

    /// The most probable token after the repetition penalty, the first one on a tie; the other restrictions never
    /// exclude it.
    pub(super) fn greedy(&self, row: &RowLogits<'_>, history: &[u32]) -> usize {
        let scores = self.penalized(row.logits, history);
        let largest = max(&scores);
        scores.iter().position(|score| *score == largest).unwrap_or_default()
    }

    /// The tokens that may be sampled. No step sorts the vocabulary.
    pub(super) fn restrict(&self, row: &RowLogits<'_>, history: &[u32]) -> Candidates {
        vectorized!(self.restricted(row, history))
    }

    #[inline(always)]
    fn restricted(&self, row: &RowLogits<'_>, history: &[u32]) -> Candidates {
        let scores = self.penalized(row.logits, history);
        let largest = if let Cow::Borrowed(_) = scores { row.max } else { max(&scores) };
        let vocab = scores.len();
        let top_k = if self.top_k == 0 { vocab } else { self.top_k };
        let mut candidates;
        let mut total = 0.0;
        if top_k < vocab {
            candidates = Candidates::at_least(&scores, largest, kth_block_maximum(&scores, top_k));
            candidates.keep_top_k(top_k);
        } else if self.top_p < 1.0 {
            // Tokens below this share of all weights sum to less than 1 - top_p together, so top-p removes them; the
            // small margin covers rounding.
            total = match &scores {
                Cow::Borrowed(_) => row.sum,
                Cow::Owned(scores) => {
                    scores.chunks(BLOCK).map(|block| f64::from(sum(block, |score| exp(score - largest)))).sum()
                }
            };
            let smallest_share = (1.0 - self.top_p) * total / vocab as f64;
            candidates = Candidates::at_least(&scores, largest, largest + smallest_share.ln() as f32 - 1e-3);
        } else {
            candidates = Candidates::at_least(&scores, largest, f32::NEG_INFINITY);
        }
        if self.top_p < 1.0 {
            candidates.keep_top_p(self.top_p * if total > 0.0 { total } else { candidates.total() });
        }
        if self.min_p > 0.0 {
            let smallest = largest + self.min_p.ln() as f32;
            candidates.tokens.retain(|candidate| candidate.score >= smallest);
        }
        candidates
    }

    fn penalized<'a>(&self, logits: &'a [f32], history: &[u32]) -> Cow<'a, [f32]> {
        if self.repetition_penalty == 1.0 {
            return Cow::Borrowed(logits);
        }
        let penalty = self.repetition_penalty as f32;
        let mut scores = logits.to_vec();
        for token in history {
            // From the unpenalized logit: a token that occurs twice is penalized once.
            let logit = logits[*token as usize];
            scores[*token as usize] = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
        Cow::Owned(scores)
    }
}

/// The tokens that may be sampled, in the order of ids.
pub(super) struct Candidates {
    tokens: Vec<Candidate>,
}

#[derive(Clone, Copy)]
struct Candidate {
    /// The penalized logit at the policy's temperature.
    score: f32,
    /// `exp(score - largest score)`.
    weight: f32,
    id: u32,
}

impl Candidates {
    /// The token at which the cumulative distribution reaches `uniform`.
    pub(super) fn draw(&self, uniform: f64) -> usize {
        let mut left = uniform * self.total();
        let mut token = 0;
        for candidate in self.tokens.iter().filter(|candidate| candidate.weight > 0.0) {
            token = candidate.id as usize;
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                break;
            }
        }
        token
    }

    #[inline(always)]
    fn at_least(scores: &[f32], largest: f32, smallest: f32) -> Self {
        let tokens = scores.iter().enumerate().filter(|(_, score)| **score >= smallest);
        let candidate =
            |(id, score): (usize, &f32)| Candidate { score: *score, weight: exp(score - largest), id: id as u32 };
        Self { tokens: tokens.map(candidate).collect() }
    }

    fn total(&self) -> f64 {
        self.tokens.iter().map(|candidate| f64::from(candidate.weight)).sum()
    }

    fn keep_top_k(&mut self, k: usize) {
        let mut scores: Vec<f32> = self.tokens.iter().map(|candidate| candidate.score).collect();
        let (_, kth, _) = scores.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        let kth = *kth;
        self.tokens.retain(|candidate| candidate.score >= kth);
    }

    /// Keeps the most probable tokens up to the one at which their weights sum to `mass`, by bisection of the ranks.
    fn keep_top_p(&mut self, mass: f64) {
        let before = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id));
        let mut ranked = self.tokens.clone();
        // Candidates before `start` are kept and weigh `sum`; those from `end` on are removed.
        let (mut start, mut end, mut sum) = (0, ranked.len(), 0.0);
        while end - start > 1 {
            let middle = start + (end - start) / 2;
            ranked[start..end].select_nth_unstable_by(middle - start, before);
            let upper: f64 = ranked[start..middle].iter().map(|candidate| f64::from(candidate.weight)).sum();
            if sum + upper >= mass {
                end = middle;
            } else {
                sum += upper;
                start = middle;
            }
        }
        if let Some(last) = ranked.get(start).copied() {
            self.tokens.retain(|candidate| before(candidate, &last).is_le());
        }
    }
}

/// The k-th largest of the maxima of blocks, which is at most the k-th largest score.
fn kth_block_maximum(scores: &[f32], k: usize) -> f32 {
    let mut maxima: Vec<f32> = scores.chunks(BLOCK).map(max).collect();
    if maxima.len() < k {
        return f32::NEG_INFINITY;
    }
    *maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

#[cfg(test)]
mod tests {
    use burn::backend::{Flex, NdArray};
    use burn::tensor::{Tensor, TensorData, backend::Backend};

    use super::*;
    use crate::InternalPolicy;

    /// More than two blocks, the last one short.
    const VOCAB: usize = 700;
    const TEMPERATURE: f64 = 0.8;
    const HISTORY: [u32; 5] = [3, 699, 3, 250, 17];

    fn logits() -> Vec<f32> {
        // Of both signs, with ties.
        (0..VOCAB).map(|i| ((i * 7919) % 331) as f32 / 40.0 - 4.0).collect()
    }

    fn policy<B: Backend>() -> InternalPolicy<B> {
        let device = Default::default();
        let states = Tensor::from_data(TensorData::new(logits(), [1, VOCAB]), &device);
        InternalPolicy::new(states, Tensor::eye(VOCAB, &device)).with_temperature(TEMPERATURE)
    }

    fn cases() -> Vec<SamplingParams> {
        let none = SamplingParams::default();
        vec![
            none,
            SamplingParams { top_k: 7, ..none },
            SamplingParams { top_k: 40, ..none },
            SamplingParams { top_p: 0.3, ..none },
            SamplingParams { top_p: 0.95, ..none },
            SamplingParams { min_p: 0.05, ..none },
            SamplingParams { repetition_penalty: 1.7, ..none },
            SamplingParams { top_k: 60, top_p: 0.8, min_p: 0.3, repetition_penalty: 1.3 },
        ]
    }

    /// The restricted distribution in f64, by sorting the vocabulary.
    fn expected(params: &SamplingParams) -> Vec<f64> {
        let mut scores: Vec<f64> = logits().iter().map(|logit| f64::from(*logit)).collect();
        let mut seen = HISTORY.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            let score = &mut scores[id as usize];
            *score = if *score > 0.0 { *score / params.repetition_penalty } else { *score * params.repetition_penalty };
        }
        let mut order: Vec<usize> = (0..VOCAB).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        let mut weights: Vec<f64> = scores.iter().map(|score| (score / TEMPERATURE).exp()).collect();
        let largest = weights[order[0]];
        if params.top_k > 0 {
            let kth = weights[order[params.top_k - 1]];
            weights.iter_mut().filter(|weight| **weight < kth).for_each(|weight| *weight = 0.0);
        }
        if params.top_p < 1.0 {
            let total: f64 = weights.iter().sum();
            let mut before = 0.0;
            for id in order {
                let weight = weights[id];
                if before >= params.top_p * total {
                    weights[id] = 0.0;
                }
                before += weight;
            }
        }
        weights.iter_mut().filter(|weight| **weight < params.min_p * largest).for_each(|weight| *weight = 0.0);
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }

    /// Uniform numbers in [0, 1) from a seed (splitmix64).
    fn uniforms(mut state: u64, count: usize) -> Vec<f64> {
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn draws_follow_the_computed_distribution() {
        let draws = 20_000;
        for (seed, params) in cases().into_iter().enumerate() {
            let uniforms = [uniforms(seed as u64, draws)];
            let sampled = policy::<Flex>().sample_restricted(&uniforms, &params, &[&HISTORY]).unwrap().remove(0);
            let on_device = policy::<NdArray>().sample_restricted(&uniforms, &params, &[&HISTORY]).unwrap().remove(0);
            let tokens = |sampled: &[crate::Sampled]| -> Vec<u32> { sampled.iter().map(|s| s.token).collect() };
            assert_eq!(tokens(&sampled), tokens(&on_device), "{params:?}");
            let expected = expected(&params);
            let mut counts = vec![0.0; VOCAB];
            sampled.iter().for_each(|sampled| counts[sampled.token as usize] += 1.0);
            // Bins with few expected draws are merged.
            let (mut bins, mut rest) = (Vec::new(), (0.0, 0.0));
            for (count, prob) in counts.iter().zip(&expected) {
                let mean = prob * draws as f64;
                assert!(*prob > 0.0 || *count == 0.0, "{params:?}: an excluded token was sampled");
                if mean >= 5.0 { bins.push((*count, mean)) } else { rest = (rest.0 + count, rest.1 + mean) }
            }
            bins.extend((rest.1 >= 5.0).then_some(rest));
            let chi_squared: f64 = bins.iter().map(|(count, mean)| (count - mean).powi(2) / mean).sum();
            let freedom = (bins.len() - 1) as f64;
            assert!(chi_squared < freedom + 4.0 * (2.0 * freedom).sqrt(), "{params:?}: {chi_squared} of {freedom}");
        }
    }

    #[test]
    fn log_probs_are_those_of_the_unrestricted_policy() {
        for params in cases() {
            let uniforms = [vec![0.1, 0.5, 0.9]];
            let sampled = policy::<Flex>().sample_restricted(&uniforms, &params, &[&HISTORY]).unwrap().remove(0);
            for sampled in sampled {
                let log_prob = policy::<Flex>().token_stats(&[sampled.token]).log_probs[0];
                assert!((sampled.log_prob - log_prob).abs() < 1e-5, "{params:?}");
            }
        }
    }

    #[test]
    fn the_most_probable_token_always_remains() {
        let none = SamplingParams::default();
        let best = policy::<Flex>().greedy().unwrap()[0].token;
        for params in [
            SamplingParams { top_k: 1, top_p: 1e-9, ..none },
            SamplingParams { top_p: 1e-9, ..none },
            SamplingParams { top_p: 1e-9, min_p: 1.0, ..none },
        ] {
            let sampled = policy::<Flex>().sample_restricted(&[vec![0.0, 0.999]], &params, &[&[]]).unwrap().remove(0);
            assert!(sampled.iter().all(|sampled| sampled.token == best), "{params:?}: {sampled:?} for {best}");
        }
    }

    #[test]
    fn greedy_decoding_is_penalized() {
        let best = policy::<Flex>().greedy().unwrap()[0].token;
        let params = SamplingParams { repetition_penalty: 10.0, top_k: 1, ..Default::default() };
        let penalized = policy::<Flex>().greedy_restricted(&params, &[&[best, best]]).unwrap()[0].token;
        let logits = logits();
        let others = (0..VOCAB).filter(|id| *id != best as usize);
        let next = others.max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)));
        assert_eq!(Some(penalized as usize), next);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let none = SamplingParams::default();
        assert!(none.check().is_ok() && !none.is_active());
        for (params, name) in [
            (SamplingParams { top_p: 0.0, ..none }, "top_p"),
            (SamplingParams { top_p: 1.1, ..none }, "top_p"),
            (SamplingParams { top_p: f64::NAN, ..none }, "top_p"),
            (SamplingParams { min_p: -0.1, ..none }, "min_p"),
            (SamplingParams { repetition_penalty: 0.0, ..none }, "repetition_penalty"),
            (SamplingParams { repetition_penalty: f64::INFINITY, ..none }, "repetition_penalty"),
        ] {
            let message = params.check().map_err(|error| error.to_string());
            assert!(message.as_ref().is_err_and(|error| error.contains(name)), "{message:?}");
        }
    }
}
