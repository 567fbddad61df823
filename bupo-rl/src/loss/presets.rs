//! Loss presets: named sets of defaults of `[objective]` and `[rollout]`.

use serde::{Deserialize, Serialize};
use toml::{Table, toml};

/// A loss by its name in the literature. Single settings override the preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossPreset {
    /// Group advantages, token-level ratio clipping, token mean (arXiv 2402.03300, with the aggregation of the reference
    /// implementation of arXiv 2512.19673).
    Grpo,
    /// GRPO without the divisions by the group's standard deviation and by the response length (arXiv 2503.20783).
    DrGrpo,
    /// Leave-one-out advantages (arXiv 2402.14740).
    Rloo,
    /// Advantages whitened over the whole step (arXiv 2501.03262).
    #[serde(rename = "reinforce++")]
    ReinforcePlusPlus,
    /// The same after subtracting the group's mean.
    #[serde(rename = "reinforce++-baseline")]
    ReinforcePlusPlusBaseline,
    /// A higher upper clip, dynamic sampling and over-long reward shaping (arXiv 2503.14476).
    Dapo,
    /// Sequence-level ratio clipping with the clip range of the paper (arXiv 2507.18071).
    Gspo,
}

impl LossPreset {
    /// The settings of the preset that differ from the defaults.
    pub(crate) fn defaults(self) -> Table {
        match self {
            Self::Grpo => Table::new(),
            Self::DrGrpo => toml! {
                objective = { advantage = "dr-grpo", aggregation = "seq-mean-token-sum-norm" }
            },
            Self::Rloo => toml! { objective = { advantage = "rloo" } },
            Self::ReinforcePlusPlus => toml! { objective = { advantage = "reinforce++" } },
            Self::ReinforcePlusPlusBaseline => toml! { objective = { advantage = "reinforce++-baseline" } },
            // The paper's buffer is 4,096 of 20,480 tokens. Its penalty of up to 1 is half the range of its rewards, -1 and 1; here
            // rewards are 0 and 1.
            Self::Dapo => toml! {
                objective = { clip_high = 0.28 }
                rollout = { max_draws = 10, overlong_share = 0.2, overlong_penalty = 0.5 }
            },
            Self::Gspo => toml! {
                objective = { ratio = "sequence", clip_low = 3e-4, clip_high = 4e-4, dual_clip = 0.0, aggregation = "seq-mean-token-mean" }
            },
        }
    }
}
