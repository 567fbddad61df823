//! Losses by name: each is a set of defaults of `[objective]` and of `[rollout]`'s sampling rules.

use serde::{Deserialize, Serialize};
use toml::{Table, toml};

/// A loss people know by a name. Single settings given beside it win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossPreset {
    /// Group advantages, each token's ratio clipped, the token mean (arXiv 2402.03300, aggregated as arXiv 2512.19673's
    /// reference implementation does).
    Grpo,
    /// GRPO without the two divisions that favour long wrong responses and prompts of one mind (arXiv 2503.20783).
    DrGrpo,
    /// Leave-one-out advantages (arXiv 2402.14740).
    Rloo,
    /// Advantages whitened over the whole step (arXiv 2501.03262).
    #[serde(rename = "reinforce++")]
    ReinforcePlusPlus,
    /// The same after the group's mean is taken off.
    #[serde(rename = "reinforce++-baseline")]
    ReinforcePlusPlusBaseline,
    /// A higher upper clip, dynamic sampling and over-long reward shaping (arXiv 2503.14476).
    Dapo,
    /// A whole response's ratio clipped, within the paper's narrow bounds (arXiv 2507.18071).
    Gspo,
}

impl LossPreset {
    /// The settings it stands for, those that differ from the defaults.
    pub(crate) fn defaults(self) -> Table {
        match self {
            Self::Grpo => Table::new(),
            Self::DrGrpo => toml! {
                objective = { advantage = "dr-grpo", aggregation = "seq-mean-token-sum-norm" }
            },
            Self::Rloo => toml! { objective = { advantage = "rloo" } },
            Self::ReinforcePlusPlus => toml! { objective = { advantage = "reinforce++" } },
            Self::ReinforcePlusPlusBaseline => toml! { objective = { advantage = "reinforce++-baseline" } },
            // The paper's buffer is 4,096 of 20,480 tokens.
            Self::Dapo => toml! {
                objective = { clip_high = 0.28 }
                rollout = { max_draws = 10, overlong_share = 0.2, overlong_penalty = 1.0 }
            },
            Self::Gspo => toml! {
                objective = { ratio = "sequence", clip_low = 3e-4, clip_high = 4e-4, dual_clip = 0.0, aggregation = "seq-mean-token-mean" }
            },
        }
    }
}
