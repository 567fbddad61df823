//! Warnings: problems that do not stop a run.

use serde::{Deserialize, Serialize};

/// A problem that does not stop the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// Its kind.
    pub kind: WarningKind,
    /// What was measured, what it means, and how to fix it.
    pub text: String,
}

/// Kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// Log-probs at sampling and in training differ.
    #[serde(alias = "sampling_gap")]
    SamplingLogpDifference,
    /// An importance ratio is far from 1.
    ImportanceRatio,
    /// Updates were skipped because their loss or gradient was not finite.
    SkippedUpdates,
    /// Little memory was free, so batches were made smaller.
    Memory,
    /// Every response reached the length limit.
    AllTruncated,
    /// Every reward is 0.
    AllRewardsZero,
    /// Rewards do not differ where advantages compare them, so that every advantage is 0.
    NoRewardVariance,
    /// External scorers failed on every response.
    AllGradingFailed,
    /// The step had nothing to train on.
    NoUpdate,
    /// A server failed and was brought back.
    ServerRecovered,
    /// The loss is not corrected for the difference between the probabilities of servers and trainer.
    NoCorrection,
}
