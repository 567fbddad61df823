//! What is said of a policy at each token.

use bupo_core::{FullPolicyDivergence, PolicyComparison};
use bupo_models::SiteMeasures;
use serde::{Deserialize, Serialize};

/// A statistic of one policy, a mean over tokens; [`Statistic::Participation`] is one over responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Of the policy, in nats.
    Entropy,
    /// At the policy's input, in nats: `H^{l-1}` for a layer, the normed input for attention and feed-forward.
    InputEntropy,
    /// Entropy less input entropy.
    EntropyChange,
    /// KL(policy || full), in nats.
    Kl,
    /// KL(full || policy), in nats.
    ReverseKl,
    /// Jensen-Shannon divergence from the full policy, in nats.
    Js,
    /// Share of tokens at which the most probable token is the full policy's.
    Agreement,
    /// Rank of the response's token, from 1.
    Rank,
    /// Probability of the response's token.
    Probability,
    /// Its log-probability, in nats.
    LogProb,
    /// Cosine of the contribution with the state it is added to.
    Cosine,
    /// Euclidean norm of the state.
    Norm,
    /// Directions a response's states spread over.
    Participation,
}

impl Statistic {
    /// Those that every token has, in the order of a accumulator's columns.
    pub(crate) const PER_TOKEN: [Self; 12] = [
        Self::Entropy,
        Self::InputEntropy,
        Self::EntropyChange,
        Self::Kl,
        Self::ReverseKl,
        Self::Js,
        Self::Agreement,
        Self::Rank,
        Self::Probability,
        Self::LogProb,
        Self::Cosine,
        Self::Norm,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entropy => "entropy",
            Self::InputEntropy => "input_entropy",
            Self::EntropyChange => "entropy_change",
            Self::Kl => "kl",
            Self::ReverseKl => "reverse_kl",
            Self::Js => "js",
            Self::Agreement => "agreement",
            Self::Rank => "rank",
            Self::Probability => "probability",
            Self::LogProb => "log_prob",
            Self::Cosine => "cosine",
            Self::Norm => "norm",
            Self::Participation => "participation",
        }
    }

    /// The unit in tables; empty for numbers without one.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Entropy | Self::InputEntropy | Self::EntropyChange => "nats",
            Self::Kl | Self::ReverseKl | Self::Js | Self::LogProb => "nats",
            Self::Participation => "directions",
            _ => "",
        }
    }
}

/// The values of [`Statistic::PER_TOKEN`] at one token, not a number where there is none.
pub(crate) fn at_token(policy: &PolicyComparison, site: Option<&SiteMeasures>, token: usize) -> [f64; 12] {
    let number = |value: Option<&f32>| value.map_or(f64::NAN, |value| f64::from(*value));
    let beside =
        |values: fn(&FullPolicyDivergence) -> &Vec<f32>| number(policy.divergence.as_ref().map(|b| &values(b)[token]));
    let entropy = f64::from(policy.entropy[token]);
    let input = number(site.map(|site| &site.input_entropy[token]));
    let log_prob = f64::from(policy.log_probs[token]);
    let agrees = policy.divergence.as_ref().map(|beside| if beside.agrees[token] { &1.0 } else { &0.0 });
    [
        entropy,
        input,
        entropy - input,
        beside(|b| &b.kl),
        beside(|b| &b.reverse_kl),
        beside(|b| &b.js),
        number(agrees),
        f64::from(policy.ranks[token]),
        log_prob.exp(),
        log_prob,
        number(site.map(|site| &site.cosine[token])),
        number(site.map(|site| &site.state_norm[token])),
    ]
}
