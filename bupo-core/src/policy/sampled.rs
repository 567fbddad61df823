//! What sampling returns.

use crate::CoreError;

/// A token sampled from a policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// The token's id.
    pub token: u32,
    /// Its log-probability in nats at the policy's temperature.
    pub log_prob: f32,
}

/// A token and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenProb {
    /// The token's id.
    pub token: u32,
    /// Its probability at the policy's temperature.
    pub prob: f32,
}

/// The place of a token among all tokens of a policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenRank {
    /// Its rank, from 1: one more than the number of tokens that are more probable.
    pub rank: usize,
    /// Its logit at the policy's temperature.
    pub logit: f32,
    /// Its probability at the policy's temperature.
    pub prob: f32,
}

impl Sampled {
    /// From three numbers of a device: the id, the log-prob, and the sum of the weights, which is not finite if a logit
    /// is not.
    pub(super) fn from_device(values: &[f32]) -> Result<Self, CoreError> {
        if values[2].is_finite() {
            Ok(Self { token: values[0] as u32, log_prob: values[1] })
        } else {
            Err(CoreError::NonFiniteLogits)
        }
    }
}
