//! Which tokens of a row of logits top-k, top-p and min-p leave.

use cubecl::prelude::*;

use crate::cube::cube_sum;

/// Ranks are below 2^30, so that no sum of their bits is negative as a signed number.
const SCALE: f32 = 1.0 / (1_u64 << 62) as f32;
/// The bits of the largest distance that ranks tell apart, scaled: 128, whose weight is 0.
const HIGHEST: u32 = 0x2400_0000;

/// Restrictions of the tokens that may be sampled, applied in this order. Their meaning is that of transformers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restrictions {
    /// Only the `top_k` most probable tokens, and those as probable as the last of them; 0 for all.
    pub top_k: usize,
    /// Only the smallest set of most probable tokens whose probabilities sum to at least `top_p`; 1 for all. The lower
    /// id comes first among equally probable tokens.
    pub top_p: f32,
    /// Only tokens at least `min_p` times as probable as the most probable one; 0 for all.
    pub min_p: f32,
}

impl Restrictions {
    /// All tokens.
    pub(crate) const NONE: Self = Self { top_k: 0, top_p: 1.0, min_p: 0.0 };

    /// As the kernel takes them, for a vocabulary of `vocab` tokens.
    pub(crate) fn args(self, vocab: usize) -> RestrictionArgs {
        RestrictionArgs {
            has_top_k: self.top_k > 0 && self.top_k < vocab,
            has_top_p: self.top_p < 1.0,
            has_min_p: self.min_p > 0.0,
        }
    }
}

/// The restrictions that a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RestrictionArgs {
    pub(crate) has_top_k: bool,
    pub(crate) has_top_p: bool,
    pub(crate) has_min_p: bool,
}

impl RestrictionArgs {
    pub(crate) fn any(self) -> bool {
        self.has_top_k || self.has_top_p || self.has_min_p
    }
}

/// The tokens that are left: those of a rank above `floor`, and those of that rank whose id is below `end`.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Left {
    floor: u32,
    end: u32,
}

/// `exp(logit - largest)` of a token that is left, 0 of another.
#[cube]
pub(crate) fn weight(logit: f32, id: usize, largest: f32, left: Left, #[comptime] args: RestrictionArgs) -> f32 {
    let mut weight = f32::exp(logit - largest);
    if comptime!(args.any()) {
        let rank = rank(logit, largest);
        if rank < left.floor || (rank == left.floor && id as u32 >= left.end) {
            weight = 0.0f32;
        }
    }
    weight
}

/// The tokens that the restrictions leave. Every unit of the cube finds the same.
#[cube]
pub(crate) fn restrict(
    logits: &Array<f32>,
    base: usize,
    largest: f32,
    top_k: f32,
    top_p: f32,
    log_min_p: f32,
    #[comptime] args: RestrictionArgs,
    #[comptime] vocab: usize,
    #[comptime] units: usize,
) -> Left {
    let mut floor = 0u32;
    let mut end = comptime!(vocab as u32).runtime();
    if comptime!(args.has_top_k) {
        floor = threshold(logits, base, largest, floor, top_k, false, vocab, units);
    }
    if comptime!(args.has_top_p) {
        let mass = top_p * sum_from(logits, base, largest, floor, true, vocab, units);
        floor = threshold(logits, base, largest, floor, mass, true, vocab, units);
        // Of the tokens of that rank only as many as the mass needs are left.
        let above = sum_from(logits, base, largest, floor + 1, true, vocab, units);
        let count = sum_from(logits, base, largest, floor, false, vocab, units)
            - sum_from(logits, base, largest, floor + 1, false, vocab, units);
        let needed = max(f32::ceil((mass - above) / weight_at(floor)), f32::cast_from(1u32));
        if needed < count {
            end = end_of_tied(logits, base, largest, floor, needed, vocab, units);
        }
    }
    if comptime!(args.has_min_p) {
        let lowest = rank_at(0.0f32 - log_min_p);
        if lowest > floor {
            floor = lowest;
            end = comptime!(vocab as u32).runtime();
        }
    }
    Left { floor, end }
}

/// An integer from 0 to [`HIGHEST`] of the same order as the logits: the bits of a distance from the largest logit, which is not negative,
/// as floating-point numbers that are not negative have the order of their bits.
#[cube]
fn rank(logit: f32, largest: f32) -> u32 {
    rank_at(largest - logit)
}

#[cube]
fn rank_at(distance: f32) -> u32 {
    let highest = HIGHEST.runtime();
    highest - min(u32::reinterpret(distance * SCALE), highest)
}

/// The weight of a token of a rank.
#[cube]
fn weight_at(rank: u32) -> f32 {
    let highest = HIGHEST.runtime();
    let scaled = f32::reinterpret(highest - rank);
    f32::exp(0.0f32 - scaled / SCALE)
}

/// The highest rank such that tokens of at least that rank, and of at least `floor`, sum to at least `target`: their number, or with
/// `weighted` their weights. Two bits of it are found by each reading of the row.
#[cube]
fn threshold(
    logits: &Array<f32>,
    base: usize,
    largest: f32,
    floor: u32,
    target: f32,
    #[comptime] weighted: bool,
    #[comptime] vocab: usize,
    #[comptime] units: usize,
) -> u32 {
    let mut found = 0u32;
    // The highest pair of bits of a rank.
    let mut step = 0x1000_0000u32;
    while step > 0 {
        let first = found + step;
        let second = first + step;
        let third = second + step;
        let mut one = 0.0f32;
        let mut two = 0.0f32;
        let mut three = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < vocab {
            let logit = logits[base + i];
            let rank = rank(logit, largest);
            if rank >= first && rank >= floor {
                let value = value(logit, largest, weighted);
                one += value;
                if rank >= second {
                    two += value;
                }
                if rank >= third {
                    three += value;
                }
            }
            i += units;
        }
        let one = cube_sum(one, units);
        let two = cube_sum(two, units);
        let three = cube_sum(three, units);
        if three >= target {
            found = third;
        } else if two >= target {
            found = second;
        } else if one >= target {
            found = first;
        }
        step >>= 2u32;
    }
    max(found, floor)
}

/// The number of tokens of at least a rank, or with `weighted` the sum of their weights.
#[cube]
fn sum_from(
    logits: &Array<f32>,
    base: usize,
    largest: f32,
    floor: u32,
    #[comptime] weighted: bool,
    #[comptime] vocab: usize,
    #[comptime] units: usize,
) -> f32 {
    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < vocab {
        let logit = logits[base + i];
        if rank(logit, largest) >= floor {
            sum += value(logit, largest, weighted);
        }
        i += units;
    }
    cube_sum(sum, units)
}

#[cube]
fn value(logit: f32, largest: f32, #[comptime] weighted: bool) -> f32 {
    let mut value = 1.0f32;
    if comptime!(weighted) {
        value = f32::exp(logit - largest);
    }
    value
}

/// The id below which there are `needed` tokens of a rank.
#[cube]
fn end_of_tied(
    logits: &Array<f32>,
    base: usize,
    largest: f32,
    floor: u32,
    needed: f32,
    #[comptime] vocab: usize,
    #[comptime] units: usize,
) -> u32 {
    let mut low = 0usize;
    let mut high = vocab.runtime();
    while low < high {
        let middle = (low + high) / 2;
        let mut count = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i <= middle {
            if rank(logits[base + i], largest) == floor {
                count += 1.0f32;
            }
            i += units;
        }
        if cube_sum(count, units) >= needed {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low as u32 + 1
}
