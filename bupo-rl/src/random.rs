//! Seeded random numbers on the host, one independent stream per purpose and step.
//!
//! A stream depends only on the run's seed, its purpose and the step, not on earlier draws, so that a run can resume at any
//! step and every backend gets the same numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Drawing training problems.
    Problems = 1,
    /// Sampling training responses.
    Rollouts = 2,
    /// Drawing held-out problems.
    HeldOut = 3,
    /// Sampling evaluation responses.
    Evaluation = 4,
    /// Initial weights.
    Weights = 5,
    /// Tokens drawn among those of high covariance.
    TokenChoice = 6,
    /// Initial adapters.
    Adapter = 7,
    /// Inputs of adapters that are dropped in an update.
    Dropout = 8,
    /// Drawing the tokens that a tuned lens is fitted to.
    LensTokens = 9,
}

/// The generator for a purpose at a step.
pub fn stream(seed: u64, purpose: Purpose, step: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((purpose as u64) << 48) | step as u64);
    rng
}

/// A seed drawn from that generator, for code that makes its own streams.
pub fn stream_seed(seed: u64, purpose: Purpose, step: usize) -> u64 {
    stream(seed, purpose, step).next_u64()
}
