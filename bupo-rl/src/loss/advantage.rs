//! Advantages of a step's responses.

use bupo_eval::mean_and_std;
use serde::{Deserialize, Serialize};

/// Keeps the division finite if all rewards are equal.
const GROUP_EPSILON: f64 = 1e-6;
/// The same, added to the variance over a batch.
pub(super) const BATCH_EPSILON: f64 = 1e-8;

/// How advantages are computed from rewards. All tokens of a response have the same advantage, but for [`Self::Gae`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advantage {
    /// `(R - mean) / (std + 1e-6)` within the group, with the unbiased standard deviation; a group of one has mean 0 and
    /// standard deviation 1, so that its advantage is its reward (GRPO as in the reference implementation of
    /// arXiv 2512.19673).
    #[default]
    Grpo,
    /// `R - mean` within the group, without the division by the standard deviation, which gives prompts with little reward
    /// variance more weight (Dr. GRPO, arXiv 2503.20783).
    DrGrpo,
    /// `R` less the mean of the group's other responses; `R` in a group of one (arXiv 2402.14740).
    Rloo,
    /// `R`, whitened over the response tokens of the step (REINFORCE++, arXiv 2501.03262).
    #[serde(rename = "reinforce++")]
    ReinforcePlusPlus,
    /// `R - mean` within the group, whitened over the response tokens of the step.
    #[serde(rename = "reinforce++-baseline")]
    ReinforcePlusPlusBaseline,
    /// `2 R - 1`: 1 for a reward of 1, -1 for a reward of 0, without a baseline (PSR and NSR, arXiv 2506.01347).
    SignedReward,
    /// Generalised advantage estimation with the values of a critic, token by token (PPO, arXiv 1707.06347):
    /// [`CriticTargets`](super::CriticTargets).
    Gae,
}

/// The standard deviation by which advantages are divided, in place of the one that [`Advantage`] has (TRL's `scale_rewards`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleRewards {
    /// That of the group's rewards, plus 1e-6; 1 in a group of one.
    Group,
    /// That of all rewards of the step, plus 1e-6 (PPO-Lite, arXiv 2508.08221); 1 for one reward.
    Batch,
    /// None.
    None,
}

/// The reward and length of a response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardedLength {
    /// The reward.
    pub reward: f64,
    /// The length in tokens.
    pub tokens: usize,
}

impl Advantage {
    /// The advantages of all of a step's groups, in their order. Of [`Self::Gae`], which takes values as well, they are those of a
    /// critic that says 0 everywhere, the rewards.
    pub fn of(self, groups: &[Vec<RewardedLength>]) -> Vec<Vec<f64>> {
        let within = |advantages: fn(&[f64]) -> Vec<f64>| -> Vec<Vec<f64>> {
            groups.iter().map(|group| advantages(&rewards(group))).collect()
        };
        match self {
            Self::Grpo => within(group_advantages),
            Self::DrGrpo => within(centred),
            Self::Rloo => within(leave_one_out),
            Self::ReinforcePlusPlus => whitened(within(<[f64]>::to_vec), groups),
            Self::ReinforcePlusPlusBaseline => whitened(within(centred), groups),
            Self::SignedReward => within(|rewards| rewards.iter().map(|reward| 2.0 * reward - 1.0).collect()),
            Self::Gae => within(<[f64]>::to_vec),
        }
    }

    /// The same, divided by another standard deviation. Advantages that are whitened or signed rewards stay as they are;
    /// settings refuse a `scale` beside them.
    pub fn scaled(self, scale: Option<ScaleRewards>, groups: &[Vec<RewardedLength>]) -> Vec<Vec<f64>> {
        let (Some(scale), true) = (scale, self.can_be_scaled()) else { return self.of(groups) };
        let of_group: fn(&[f64]) -> Vec<f64> = if self == Self::Rloo { leave_one_out } else { centred };
        let all: Vec<f64> = groups.iter().flat_map(|group| rewards(group)).collect();
        let scaled = |group: &Vec<RewardedLength>| {
            let rewards = rewards(group);
            let divisor = match scale {
                ScaleRewards::Group => std(&rewards) + GROUP_EPSILON,
                ScaleRewards::Batch => std(&all) + GROUP_EPSILON,
                ScaleRewards::None => 1.0,
            };
            of_group(&rewards).into_iter().map(|advantage| advantage / divisor).collect()
        };
        groups.iter().map(scaled).collect()
    }

    /// Whether [`ScaleRewards`] applies: advantages that are a reward less a mean of its group.
    pub(crate) fn can_be_scaled(self) -> bool {
        matches!(self, Self::Grpo | Self::DrGrpo | Self::Rloo)
    }
}

/// The unbiased standard deviation; 1 of fewer than two rewards.
fn std(rewards: &[f64]) -> f64 {
    if rewards.len() > 1 { mean_and_std(rewards).1 } else { 1.0 }
}

/// `A_i = (R_i - mean(R)) / (std(R) + 1e-6)`: [`Advantage::Grpo`] of one group.
pub fn group_advantages(rewards: &[f64]) -> Vec<f64> {
    let (mean, std) = if rewards.len() > 1 { mean_and_std(rewards) } else { (0.0, 1.0) };
    rewards.iter().map(|reward| (reward - mean) / (std + GROUP_EPSILON)).collect()
}

fn rewards(group: &[RewardedLength]) -> Vec<f64> {
    group.iter().map(|scored| scored.reward).collect()
}

/// `R - mean`; a group of one keeps its reward.
fn centred(rewards: &[f64]) -> Vec<f64> {
    let mean = if rewards.len() > 1 { mean_and_std(rewards).0 } else { 0.0 };
    rewards.iter().map(|reward| reward - mean).collect()
}

fn leave_one_out(rewards: &[f64]) -> Vec<f64> {
    let sum: f64 = rewards.iter().sum();
    let others = rewards.len().saturating_sub(1);
    rewards.iter().map(|reward| if others == 0 { *reward } else { reward - (sum - reward) / others as f64 }).collect()
}

/// `(A - mean) / sqrt(var + 1e-8)` with mean and unbiased variance over all response tokens.
fn whitened(advantages: Vec<Vec<f64>>, groups: &[Vec<RewardedLength>]) -> Vec<Vec<f64>> {
    let weights = || groups.iter().flatten().map(|scored| scored.tokens as f64);
    let values = || advantages.iter().flatten().copied();
    let tokens: f64 = weights().sum();
    let mean = values().zip(weights()).map(|(value, weight)| value * weight).sum::<f64>() / tokens.max(1.0);
    let squares: f64 = values().zip(weights()).map(|(value, weight)| (value - mean).powi(2) * weight).sum();
    let scale = (squares / (tokens - 1.0).max(1.0) + BATCH_EPSILON).sqrt().recip();
    advantages.iter().map(|group| group.iter().map(|value| (value - mean) * scale).collect()).collect()
}
