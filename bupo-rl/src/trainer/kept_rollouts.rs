//! What was sampled in each step, as lines of `rollouts.jsonl`.

use bupo_eval::Group;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::Trainer;
use crate::RlError;

/// A line of `rollouts.jsonl` in a run's folder: one response. `bupo replay` and `bupo analyze --completions` read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptRollout {
    /// The step, from 1.
    pub step: usize,
    /// The prompt's number in the run, from 0; responses to one prompt share it.
    pub group: usize,
    /// The text of the prompt's tokens.
    pub prompt: String,
    /// The response's text.
    pub response: String,
    /// The prompt's token ids.
    pub prompt_tokens: Vec<u32>,
    /// The response's token ids.
    pub response_tokens: Vec<u32>,
    /// The reward; `None` if a scorer failed.
    pub reward: Option<f64>,
}

impl<B: Backend> Trainer<'_, B> {
    /// Logs the responses of a step that `rollout.keep` asks for. `first`: the number of the first group in the run.
    pub(super) fn keep_rollouts(&mut self, sampled: &[Group], step: usize, first: usize) -> Result<(), RlError> {
        let mut left = self.config.rollout.keep.limit();
        for (index, group) in sampled.iter().enumerate() {
            if left == 0 {
                break;
            }
            let prompt = self.tokenizer.decode(&group.question.tokens)?;
            for (response, reward) in group.responses.iter().zip(group.scores()).take(left) {
                self.run.rollout(&KeptRollout {
                    step,
                    group: first + index,
                    prompt: prompt.clone(),
                    response: response.text.clone(),
                    prompt_tokens: group.question.tokens.clone(),
                    response_tokens: response.tokens.clone(),
                    reward,
                })?;
            }
            left = left.saturating_sub(group.responses.len());
        }
        Ok(())
    }
}
