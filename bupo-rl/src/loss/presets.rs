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
    /// Advantages token by token from a critic (arXiv 1707.06347 and 1506.02438).
    Ppo,
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
    /// Correct responses alone, with advantage 1 (arXiv 2506.01347).
    Psr,
    /// Wrong responses alone, with advantage -1 (arXiv 2506.01347).
    Nsr,
    /// Both, correct ones weighted by 0.1 (W-REINFORCE, arXiv 2506.01347).
    WReinforce,
    /// Clipped importance weights that every token keeps its gradient under (arXiv 2506.13585).
    Cispo,
    /// A sigmoid of the ratio instead of a clip (arXiv 2511.20347).
    Sapo,
    /// The geometric mean of clipped token ratios (arXiv 2507.20673).
    Gmpo,
    /// No clip; some of the tokens of high covariance have no gradient (arXiv 2505.22617).
    ClipCov,
    /// No clip; the tokens of the highest covariance are held near the old policy (arXiv 2505.22617).
    KlCov,
    /// DAPO on the fifth of tokens of the highest entropy (arXiv 2506.01939).
    HighEntropy,
    /// GRPO on the full policy, and the Jensen-Shannon divergence of layer 3, read through the final norm, from it, weighted by advantages
    /// (arXiv 2605.29089).
    Oisd,
    /// First wrong responses without their prompts, then GRPO (arXiv 2604.14142).
    Dsrl,
}

impl LossPreset {
    /// The settings of the preset that differ from the defaults.
    pub(crate) fn defaults(self) -> Table {
        match self {
            Self::Grpo => Table::new(),
            Self::DrGrpo => toml! {
                objective = { advantage = "dr-grpo", aggregation = "seq-mean-token-sum-norm" }
            },
            Self::Ppo => toml! { objective = { advantage = "gae" } },
            Self::Rloo => toml! { objective = { advantage = "rloo" } },
            Self::ReinforcePlusPlus => toml! { objective = { advantage = "reinforce++" } },
            Self::ReinforcePlusPlusBaseline => toml! { objective = { advantage = "reinforce++-baseline" } },
            // The paper's buffer is 4,096 of 20,480 tokens. Its penalty of up to 1 is half the range of its rewards, -1 and 1; here
            // rewards are 0 and 1.
            Self::Dapo => toml! {
                objective = { clip_high = 0.28 }
                rollout = { max_draws = 10, overlong_share = 0.2, overlong_penalty = 0.5 }
            },
            Self::Psr => toml! { objective = { advantage = "signed-reward", negative_weight = 0.0 } },
            Self::Nsr => toml! { objective = { advantage = "signed-reward", positive_weight = 0.0 } },
            Self::WReinforce => toml! { objective = { advantage = "signed-reward", positive_weight = 0.1 } },
            // No lower bound, as in the paper, which does not say its upper one; a ratio of 5 is that of ScaleRL (arXiv 2510.13786).
            Self::Cispo => toml! {
                objective = { surrogate = "cispo", clip_low = 1.0, clip_high = 4.0, dual_clip = 0.0 }
            },
            Self::Sapo => toml! {
                objective = { surrogate = "sapo", dual_clip = 0.0, aggregation = "seq-mean-token-mean" }
            },
            Self::Gmpo => toml! {
                objective = { surrogate = "gmpo", clip_low = 0.4, clip_high = 0.4, dual_clip = 0.0, aggregation = "seq-mean-token-mean" }
            },
            Self::ClipCov => toml! {
                objective = { surrogate = "unclipped", dual_clip = 0.0, covariance = { mode = "clip" } }
            },
            Self::KlCov => toml! {
                objective = { surrogate = "unclipped", dual_clip = 0.0, covariance = { mode = "kl" } }
            },
            Self::Oisd => toml! {
                phases = [{
                    site = "full", steps = 80,
                    sites = [{
                        site = "layer:3", norm = "final", divergence = "js", advantage_weighted = true, detached = true
                    }]
                }]
            },
            Self::Dsrl => toml! {
                phases = [
                    { site = "full", steps = 20, without_prompt = true, samples = "negative" },
                    { site = "full", steps = 60 }
                ]
            },
            Self::HighEntropy => {
                let mut table = Self::Dapo.defaults();
                if let Some(objective) = table.get_mut("objective").and_then(toml::Value::as_table_mut) {
                    objective.insert("top_entropy_share".into(), 0.2.into());
                }
                table
            }
            Self::Gspo => toml! {
                objective = { ratio = "sequence", clip_low = 3e-4, clip_high = 4e-4, dual_clip = 0.0, aggregation = "seq-mean-token-mean" }
            },
        }
    }
}
