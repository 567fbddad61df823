//! A response with the inputs of its loss.

use bupo_models::Sequence;

use crate::loss::{ChosenTokens, CriticTargets};

/// A response with the inputs of its loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Prompt and response.
    pub sequence: Sequence,
    /// The response's advantage within its group.
    pub advantage: f64,
    /// The advantages of its tokens in the place of that one, and the targets of their values, if there is a critic.
    pub critic: Option<CriticTargets>,
    /// Log-probs of the response's tokens before the step, at the site of the loss; `None` in the first update of a step, whose
    /// own log-probs are the old ones.
    pub old_log_probs: Option<Vec<f32>>,
    /// Log-probs under the frozen reference, if the loss has a KL term.
    pub ref_log_probs: Option<Vec<f32>>,
    /// Log-probs by which the loss is corrected for the engine that sampled the response, if it is.
    pub sampling: Option<SamplingLogProbs>,
    /// The tokens chosen by entropy or covariance, if any are.
    pub chosen: ChosenTokens,
    /// Log-probs at the further sites of the loss, in their order; may be empty where none are needed.
    pub terms: Vec<TermLogProbs>,
}

impl Sample {
    /// The advantages of its tokens, if they have their own.
    pub(super) fn token_advantages(&self) -> Option<&[f64]> {
        self.critic.as_ref().map(|targets| &targets.advantages[..])
    }
}

/// Log-probs of a response's tokens at a further site of the loss.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TermLogProbs {
    /// Before the step; `None` in the first update of a step.
    pub old: Option<Vec<f32>>,
    /// Under the frozen reference, if the loss has a KL term.
    pub reference: Option<Vec<f32>>,
}

/// Log-probs of a response's tokens under the full policy, in the engine that sampled it and in the trainer.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingLogProbs {
    /// In the engine, at sampling.
    pub engine: Vec<f32>,
    /// In the trainer, before the step; `None` if the loss is of the full policy, whose old log-probs they are.
    pub trainer: Option<Vec<f32>>,
}
