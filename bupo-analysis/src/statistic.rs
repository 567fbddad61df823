//! The statistics of a policy.

use bupo_core::{FullPolicyDivergence, PolicyComparison};
use bupo_models::SiteMeasures;
use serde::{Deserialize, Serialize};

/// A statistic of one policy, averaged over tokens; [`Statistic::Participation`] is averaged over responses, and CKA is of all tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Entropy of the policy, in nats.
    Entropy,
    /// Entropy at the module's input, in nats: of `H^{l-1}` for a layer, of the normalized input for attention and feed-forward.
    InputEntropy,
    /// Entropy minus input entropy, in nats.
    EntropyChange,
    /// KL(policy || full), in nats.
    Kl,
    /// KL(full || policy), in nats.
    ReverseKl,
    /// Jensen-Shannon divergence from the full policy, in nats.
    Js,
    /// Fraction of tokens at which policy and full policy have the same most probable token.
    Agreement,
    /// Rank of the response token in the policy, from 1.
    Rank,
    /// Probability of the response token.
    Probability,
    /// Log-probability of the response token, in nats.
    LogProb,
    /// Cosine similarity of the contribution and the state it is added to.
    Cosine,
    /// Euclidean norm of the state.
    Norm,
    /// What the site added to the full policy's logit of the response token; of the full policy, that logit.
    Attribution,
    /// What all that came before the site added to that logit: of `layer:1` what the embedding added.
    InputAttribution,
    /// Participation ratio of a response's states: the effective number of their dimensions.
    Participation,
    /// Cosine similarity of a layer's state and the last layer's.
    CosineToLast,
    /// Linear CKA of a layer's states and the last layer's, over all tokens.
    CkaToLast,
    /// Cosine similarity of a layer's state and the same layer's of the first model, or of the model before training.
    CosineToBase,
    /// Linear CKA of a layer's states and the same layer's of the first model, or of the model before training, over all tokens.
    CkaToBase,
}

impl Statistic {
    /// The statistics of a token, in the order of the accumulator's columns.
    pub(crate) const PER_TOKEN: [Self; 14] = [
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
        Self::Attribution,
        Self::InputAttribution,
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
            Self::Attribution => "attribution",
            Self::InputAttribution => "input_attribution",
            Self::Participation => "participation",
            Self::CosineToLast => "cosine_to_last",
            Self::CkaToLast => "cka_to_last",
            Self::CosineToBase => "cosine_to_base",
            Self::CkaToBase => "cka_to_base",
        }
    }

    /// The unit in tables; empty for numbers without one.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Entropy | Self::InputEntropy | Self::EntropyChange => "nats",
            Self::Kl | Self::ReverseKl | Self::Js | Self::LogProb => "nats",
            Self::Attribution | Self::InputAttribution => "logits",
            Self::Participation => "directions",
            _ => "",
        }
    }
}

/// What was measured of a policy; the full policy has no `site` and its logits as `attribution`.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) policy: &'a PolicyComparison,
    pub(crate) site: Option<&'a SiteMeasures>,
    pub(crate) attribution: Option<&'a Vec<f32>>,
}

/// The values of [`Statistic::PER_TOKEN`] at one token, NaN if not measured.
pub(crate) fn at_token(measured: Measured<'_>, token: usize) -> [f64; 14] {
    let Measured { policy, site, attribution } = measured;
    let number = |value: Option<&f32>| value.map_or(f64::NAN, |value| f64::from(*value));
    let divergence =
        |values: fn(&FullPolicyDivergence) -> &Vec<f32>| number(policy.divergence.as_ref().map(|d| &values(d)[token]));
    let entropy = f64::from(policy.entropy[token]);
    let input = number(site.map(|site| &site.input_entropy[token]));
    let log_prob = f64::from(policy.log_probs[token]);
    let agrees = policy.divergence.as_ref().map(|d| if d.agrees[token] { &1.0 } else { &0.0 });
    [
        entropy,
        input,
        entropy - input,
        divergence(|d| &d.kl),
        divergence(|d| &d.reverse_kl),
        divergence(|d| &d.js),
        number(agrees),
        f64::from(policy.ranks[token]),
        log_prob.exp(),
        log_prob,
        number(site.map(|site| &site.cosine[token])),
        number(site.map(|site| &site.state_norm[token])),
        number(attribution.map(|added| &added[token])),
        number(site.and_then(|site| site.input_attribution.as_ref()).map(|before| &before[token])),
    ]
}
