//! The critic in a run: values before a step and what they make of its rewards, updates of its own, metrics, and its file in a
//! checkpoint.

use std::fs;
use std::path::Path;

use bupo_collective::Processes;
use bupo_core::PolicySite;
use bupo_eval::{Group, mean_and_std};
use bupo_models::{Decoder, Sequence};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::Trainer;
use super::mini_batch::MiniBatch;
use super::moments::{HostMoments, write_tensors};
use crate::RlError;
use crate::config::TrainConfig;
use crate::loss::{CriticTargets, PlacedTargets, ValueStats, whiten};
use crate::rollout::shaped_reward;
use crate::update::{Critic, CriticStats, LossSpec, Sample, ValueHead};

const FILE: &str = "critic.safetensors";
/// The tensors of the file: the weights and then the bias, and AdamW's moments of them.
const NAMES: [&str; 3] = ["parameters", "first", "second"];

/// The critic of a step. Means are over its response tokens, before its updates, or over its updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticMetrics {
    /// Mean value before the step.
    pub value_mean: f64,
    /// `1 - var(returns - values) / var(returns)` before the step; `None` if all returns are the same.
    pub explained_variance: Option<f64>,
    /// Mean value loss.
    pub value_loss: Option<f64>,
    /// Share of tokens whose value was clipped.
    pub value_clip_ratio: Option<f64>,
    /// Mean norm of the head's gradient before clipping.
    pub value_grad_norm: Option<f64>,
}

impl CriticMetrics {
    /// `None` without a critic or response tokens.
    pub(super) fn of(values: Option<ValueStats>, updates: &[CriticStats]) -> Option<Self> {
        let mean = |of: fn(&CriticStats) -> f64| {
            let all: Vec<f64> = updates.iter().map(of).collect();
            (!all.is_empty()).then(|| mean_and_std(&all).0)
        };
        values.map(|values| Self {
            value_mean: values.mean,
            explained_variance: values.explained_variance,
            value_loss: mean(|update| update.loss),
            value_clip_ratio: mean(|update| update.clip_ratio),
            value_grad_norm: mean(|update| update.grad_norm),
        })
    }
}

/// What the state of a checkpoint has of a critic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CriticState {
    site: PolicySite,
    /// AdamW's steps.
    steps: usize,
}

impl CriticState {
    pub(super) fn of<B: Backend>(critic: &Critic<B>) -> Self {
        Self { site: critic.config().site, steps: critic.head.steps }
    }
}

/// A copy of a critic on the host.
pub(crate) struct HostCritic(HostMoments);

impl HostCritic {
    pub(super) fn of<B: Backend>(critic: &Critic<B>) -> Self {
        let [first, second] = critic.head.moments.clone();
        let tensors = [critic.head.parameters.clone(), first, second];
        Self(NAMES.iter().zip(tensors).map(|(name, tensor)| (name.to_string(), tensor.into_data())).collect())
    }
}

/// The critic of a run's settings before training, if they have one.
pub(super) fn new_critic<B: Backend>(config: &TrainConfig, decoder: &Decoder<B>) -> Result<Option<Critic<B>>, RlError> {
    config.has_critic().then(|| Critic::new(config.critic, &config.optimizer, decoder)).transpose()
}

/// Writes a critic into a checkpoint's folder.
pub(crate) fn write_critic(checkpoint: &Path, critic: &HostCritic) -> Result<(), RlError> {
    write_tensors(&checkpoint.join(FILE), &critic.0)
}

/// Gives a critic the state in a checkpoint's folder, which process 0 reads. It stays new if the checkpoint is of a run without a
/// critic, or with one at another site.
pub(super) fn read_critic<B: Backend>(
    checkpoint: &Path,
    saved: Option<&CriticState>,
    critic: &mut Critic<B>,
    device: &B::Device,
    processes: &Processes,
) -> Result<(), RlError> {
    let Some(saved) = saved.filter(|saved| saved.site == critic.config().site) else { return Ok(()) };
    let path = checkpoint.join(FILE);
    let bytes = if processes.is_first() { fs::read(&path).map_err(RlError::io("read", &path))? } else { Vec::new() };
    let length = critic.head.parameters.dims()[0];
    let read = |name: &str| -> Result<Tensor<B, 1>, RlError> {
        let numbers = processes.numbers_from_first(length, || numbers(&bytes, name, length, &path))?;
        Ok(Tensor::from_data(TensorData::new(numbers, [length]), device))
    };
    let [parameters, first, second] = NAMES;
    critic.head =
        ValueHead { parameters: read(parameters)?, moments: [read(first)?, read(second)?], steps: saved.steps };
    Ok(())
}

/// The numbers of a tensor of this length.
fn numbers(bytes: &[u8], name: &str, length: usize, path: &Path) -> Result<Vec<f32>, RlError> {
    let damaged = |reason: String| RlError::NoData { path: path.to_path_buf(), reason };
    let tensor = SafeTensors::deserialize(bytes).and_then(|file| file.tensor(name).map(|view| view.data().to_vec()));
    let data = tensor.map_err(|error| damaged(error.to_string()))?;
    if data.len() != 4 * length {
        return Err(damaged(format!("{name} has {} bytes, not {}", data.len(), 4 * length)));
    }
    Ok(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// The critic's values of each sequence before a step; none without a critic.
pub(super) fn values_of<B: Backend>(
    trainer: &Trainer<'_, B>,
    sequences: &[Sequence],
    loss: &LossSpec,
) -> Result<Vec<CriticTargets>, RlError> {
    let Some(critic) = &trainer.critic else { return Ok(Vec::new()) };
    let values = critic.values(&trainer.model.decoder, sequences, loss.max_tokens_per_batch)?;
    Ok(values.into_iter().map(|values| CriticTargets { values, ..CriticTargets::default() }).collect())
}

/// Sets the advantages and returns of a process's samples from their values and rewards, whitened over the step. The reward of a
/// response is at its last token; with a KL in the reward each token has its own part. Responses that a scorer failed to grade get no
/// targets.
pub(super) fn response_targets(
    config: &TrainConfig,
    groups: &[Group],
    mut samples: Vec<((usize, usize), &mut Sample)>,
    processes: &Processes,
) -> Result<Option<ValueStats>, RlError> {
    let reward_kl = &config.objective.reward_kl;
    for ((group, number), sample) in &mut samples {
        let response = &groups[*group].responses[*number];
        let (old, reference) = (sample.old_log_probs.as_deref(), sample.ref_log_probs.as_deref());
        sample.critic = sample.critic.take().filter(|_| response.failure.is_none()).map(|targets| {
            let mut rewards = match old.zip(reference).filter(|_| reward_kl.is_on()) {
                Some((old, reference)) => {
                    reward_kl.token_penalties(old, reference).into_iter().map(|penalty| -penalty).collect()
                }
                None => vec![0.0; targets.values.len()],
            };
            if let Some(last) = rewards.last_mut() {
                *last += shaped_reward(response, &config.rollout);
            }
            CriticTargets::new(&rewards, targets.values, config.critic.gamma, config.critic.gae_lambda)
        });
    }
    let mut placed: Vec<PlacedTargets<'_>> =
        samples.into_iter().filter_map(|(place, sample)| Some((place, sample.critic.as_mut()?))).collect();
    whiten(&mut placed, processes)
}

impl<B: Backend> Trainer<'_, B> {
    /// Updates of the critic alone, one per mini-batch in each epoch.
    pub(super) fn update_critic(&mut self, batches: &[MiniBatch]) -> Result<Vec<CriticStats>, RlError> {
        let Some(critic) = &mut self.critic else { return Ok(Vec::new()) };
        let (update, decoder) = (&self.config.update, &self.model.decoder);
        (0..update.epochs)
            .flat_map(|_| batches)
            .map(|batch| {
                let (samples, tokens) = (&batch.samples, batch.size.tokens());
                critic.update_alone(decoder, samples, tokens, update.max_tokens_per_batch, self.processes)
            })
            .collect()
    }

    /// Gives the critic the state in a checkpoint's folder.
    pub(super) fn restore_critic(&mut self, checkpoint: &Path, saved: Option<&CriticState>) -> Result<(), RlError> {
        let device = self.model.decoder.device();
        match &mut self.critic {
            Some(critic) => read_critic(checkpoint, saved, critic, &device, self.processes),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bupo_eval::{Question, ScoredResponse};
    use bupo_grade::Graded;

    use super::*;
    use crate::loss::ChosenTokens;

    /// A response of this score; `None` if the scorer failed.
    fn response(score: Option<f64>, tokens: usize) -> ScoredResponse {
        ScoredResponse {
            tokens: vec![1; tokens],
            log_probs: vec![0.0; tokens],
            text: String::new(),
            graded: Graded { score: score.unwrap_or(0.0), extracted: None },
            failure: score.is_none().then(|| "it timed out".into()),
            finished: true,
        }
    }

    /// Its sample, with values of 0.5, and log-probs that are above the reference's by 1 at the first token and 2 at the others.
    fn sample(tokens: usize) -> Sample {
        Sample {
            sequence: Sequence { prompt: vec![1], response: vec![1; tokens] },
            advantage: 0.0,
            critic: Some(CriticTargets { values: vec![0.5; tokens], ..CriticTargets::default() }),
            old_log_probs: Some(vec![-1.0; tokens]),
            ref_log_probs: Some((0..tokens).map(|token| if token == 0 { -2.0 } else { -3.0 }).collect()),
            sampling: None,
            chosen: ChosenTokens::default(),
            terms: Vec::new(),
        }
    }

    #[test]
    fn rewards_are_at_last_tokens_and_penalties_at_their_own() -> Result<(), RlError> {
        let question =
            Question { prompt: String::new(), tokens: vec![1], answer: String::new(), data_source: String::new() };
        let responses = vec![response(Some(1.0), 3), response(None, 2), response(Some(0.0), 4)];
        let groups = [Group { question, responses, weights_step: None }];
        let returns = |pairs: &[&str]| -> Result<Vec<Option<Vec<f64>>>, RlError> {
            let pairs: Vec<String> = ["loss=ppo"].iter().chain(pairs).map(ToString::to_string).collect();
            let mut samples = [3, 2, 4].map(sample);
            let placed = samples.iter_mut().enumerate().map(|(number, sample)| ((0, number), sample)).collect();
            let config = TrainConfig::load(None, &pairs)?;
            let stats = response_targets(&config, &groups, placed, &Processes::alone())?;
            assert_eq!(stats.map(|stats| stats.mean), Some(0.5), "of graded responses");
            Ok(samples.map(|sample| sample.critic.map(|targets| targets.returns)).into())
        };
        assert_eq!(returns(&[])?, [Some(vec![1.0; 3]), None, Some(vec![0.0; 4])]);
        // Of 4 tokens at most, 2 are the buffer: 3 lose a half of the penalty, 4 all of it.
        let overlong = ["rollout.max_new_tokens=4", "rollout.overlong_share=0.5", "rollout.overlong_penalty=0.5"];
        assert_eq!(returns(&overlong)?, [Some(vec![0.75; 3]), None, Some(vec![-0.5; 4])]);
        let penalised = returns(&["objective.reward_kl.coefficient=0.125"])?;
        assert_eq!(penalised[0], Some(vec![0.375, 0.5, 0.75]));
        assert_eq!(penalised[2], Some(vec![-0.875, -0.75, -0.5, -0.25]));
        Ok(())
    }
}
