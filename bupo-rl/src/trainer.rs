//! The training loop: rollouts, rewards, old log-probs, advantages, updates, phase by phase.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bupo_core::PolicySite;
use bupo_models::{LoadedModel, ModelFiles, TextTokenizer, load_model};
use burn::tensor::backend::AutodiffBackend;
use serde::Serialize;

use crate::RlError;
use crate::advantage::{group_advantages, mean_and_std};
use crate::batch::{PolicySpec, Sequence, response_stats};
use crate::config::TrainConfig;
use crate::evaluate::{Completion, Evaluation, Group, Sampling, evaluate, sample_groups};
use crate::optimizer::DecoderOptimizer;
use crate::random::{Purpose, stream, stream_seed};
use crate::run_folder::RunFolder;
use crate::schedule::{Phase, Schedule};
use crate::task::{Arithmetic, Problem, Task};
use crate::update::{LossSpec, Sample, UpdateStats, update};

/// Completions are kept of the first step and of every one of this many.
const COMPLETIONS_EVERY: usize = 10;
/// How many are kept each time.
const COMPLETIONS_KEPT: usize = 4;

/// What a run tells while it goes on.
pub trait Progress {
    /// The model is loaded and everything is checked.
    fn ready(&mut self, plan: &Plan<'_>);
    /// An evaluation is about to start.
    fn evaluating(&mut self, when: &str);
    /// An evaluation is done.
    fn evaluated(&mut self, when: &str, evaluation: &Evaluation);
    /// A phase begins.
    fn phase(&mut self, number: usize, phase: &Phase);
    /// A step is done.
    fn step(&mut self, metrics: &StepMetrics);
}

/// What a run is about to do.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The resolved settings.
    pub config: &'a TrainConfig,
    /// Steps of all phases.
    pub steps: usize,
    /// Layers of the model.
    pub num_layers: usize,
    /// Parameters of the model.
    pub num_params: usize,
    /// The run folder.
    pub folder: &'a Path,
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Before training.
    pub before: Evaluation,
    /// After training.
    pub after: Evaluation,
    /// The run folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The trained model within it.
    #[serde(skip)]
    pub model: PathBuf,
}

/// One line of `metrics.jsonl`. Means are over the step's responses or response tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepMetrics {
    /// From 1.
    pub step: usize,
    /// The phase's number, from 1.
    pub phase: usize,
    /// The policy trained.
    pub site: PolicySite,
    /// Mean reward.
    pub reward: f64,
    /// Mean over groups of the rewards' standard deviation.
    pub reward_std: f64,
    /// Share of groups whose rewards are all equal, which teach nothing.
    pub frac_reward_zero_std: f64,
    /// Mean entropy in nats of the trained policy at the response tokens, before the step.
    pub entropy: f64,
    /// Mean of `logp_old - logp` over the step's updates.
    pub kl: f64,
    /// Mean loss of the updates.
    pub loss: f64,
    /// Mean global norm of the updates' gradients before clipping.
    pub grad_norm: f64,
    /// Share of tokens whose ratio was clipped.
    pub clip_ratio: f64,
    /// Share of tokens bounded by the dual clip.
    pub dual_clip_ratio: f64,
    /// The importance ratio furthest from 1 in the first update, which is 1 exactly.
    pub first_ratio: f64,
    /// The importance ratio furthest from 1 in any update.
    pub extreme_ratio: f64,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Share of responses cut by the length limit.
    pub truncated: f64,
    /// Updates left out because their gradient was not finite.
    pub skipped_updates: usize,
    /// AdamW's step size.
    pub learning_rate: f64,
    /// Prompt and response tokens of the step over its seconds.
    pub tokens_per_second: f64,
    /// Seconds spent generating.
    pub seconds_rollout: f64,
    /// Seconds spent on old log-probs and updates.
    pub seconds_update: f64,
}

/// Trains a model by its settings and leaves a run folder: settings, metrics, completions, evaluations, the model.
///
/// # Errors
/// Before work starts: if the model cannot be loaded, a site is outside it, or the folder is taken or cannot be
/// written. Later: if the policy's logits are no longer finite, or something cannot be written.
pub fn train<A: AutodiffBackend>(
    config: &TrainConfig,
    files: &ModelFiles,
    folder: &Path,
    device: &A::Device,
    progress: &mut dyn Progress,
) -> Result<Outcome, RlError> {
    let mut trainer = Trainer::<A>::new(config, files, folder, device)?;
    progress.ready(&trainer.plan());
    progress.evaluating("before");
    let before = trainer.evaluate(0)?;
    progress.evaluated("before", &before);
    let mut present = 0;
    for step in 1..=trainer.schedule.steps() {
        let (number, phase) = trainer.schedule.at(step);
        if number != present {
            progress.phase(number, &phase);
            present = number;
        }
        progress.step(&trainer.step(step)?);
    }
    let model = trainer.run.model(&trainer.model.decoder, files)?;
    progress.evaluating("after");
    let after = trainer.evaluate(trainer.schedule.steps())?;
    progress.evaluated("after", &after);
    let outcome = Outcome { before, after, folder: folder.to_path_buf(), model };
    trainer.run.evaluations(&outcome)?;
    Ok(outcome)
}

struct Trainer<'a, A: AutodiffBackend> {
    config: &'a TrainConfig,
    schedule: Schedule,
    model: LoadedModel<A::InnerBackend>,
    tokenizer: TextTokenizer,
    task: Arithmetic,
    optimizer: DecoderOptimizer<A>,
    run: RunFolder,
}

#[derive(Serialize)]
struct KeptCompletion<'a> {
    step: usize,
    held_out: bool,
    #[serde(flatten)]
    completion: &'a Completion,
}

impl<'a, A: AutodiffBackend> Trainer<'a, A> {
    fn new(config: &'a TrainConfig, files: &ModelFiles, folder: &Path, device: &A::Device) -> Result<Self, RlError> {
        let num_layers = bupo_models::checkpoint::load_config(files)?.num_hidden_layers;
        let schedule = config.schedule(num_layers)?;
        let tokenizer = TextTokenizer::load(files)?;
        let model = load_model::<A::InnerBackend>(files, device)?;
        if model.eos_token_ids.is_empty() {
            return Err(RlError::Config(
                "the model names no end-of-sequence token, so no response would ever end; \
                 give eos_token_id in its generation_config.json"
                    .into(),
            ));
        }
        let run = RunFolder::create(folder, &config.to_toml()?)?;
        Ok(Self {
            schedule,
            tokenizer,
            task: config.task.task(),
            optimizer: DecoderOptimizer::new(config.optimizer),
            model,
            run,
            config,
        })
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            config: self.config,
            steps: self.schedule.steps(),
            num_layers: self.model.config.num_hidden_layers,
            num_params: burn::module::Module::num_params(&self.model.decoder),
            folder: self.run.path(),
        }
    }

    /// The same problems and random numbers before and after.
    fn evaluate(&mut self, step: usize) -> Result<Evaluation, RlError> {
        let settings = &self.config.evaluation;
        let mut rng = stream(self.config.seed, Purpose::HeldOut, 0);
        let problems: Vec<Problem> = (0..settings.problems).map(|_| self.task.held_out_problem(&mut rng)).collect();
        let sampling = Sampling {
            samples: settings.samples,
            temperature: settings.temperature,
            max_new_tokens: self.config.rollout.max_new_tokens,
            seed: stream_seed(self.config.seed, Purpose::Evaluation, 0),
        };
        let LoadedModel { decoder, eos_token_ids, .. } = &self.model;
        let evaluation = evaluate(decoder, &self.tokenizer, eos_token_ids, &self.task, &problems, &sampling)?;
        for completion in evaluation.completions.iter().take(COMPLETIONS_KEPT) {
            self.run.completion(&KeptCompletion { step, held_out: true, completion })?;
        }
        Ok(evaluation)
    }

    fn step(&mut self, step: usize) -> Result<StepMetrics, RlError> {
        let started = Instant::now();
        let groups = self.rollout(step)?;
        let seconds_rollout = started.elapsed().as_secs_f64();

        let (number, phase) = self.schedule.at(step);
        let loss = LossSpec {
            policy: PolicySpec { site: phase.site, norm: phase.norm, temperature: self.config.rollout.temperature },
            objective: self.config.objective,
            micro_batch: self.config.update.micro_batch,
        };
        // Old log-probs of all mini-batches come before the first update, at the site this step trains.
        let per_update = groups.len().min(self.config.update.mini_batch_prompts);
        let mini_batches: Vec<MiniBatch> = groups
            .chunks(per_update)
            .map(|groups| MiniBatch::new::<A>(&self.model, groups, &loss))
            .collect::<Result<_, _>>()?;
        let updates: Vec<UpdateStats> = mini_batches
            .iter()
            .map(|batch| update(&mut self.model.decoder, &mut self.optimizer, &batch.samples, &loss))
            .collect::<Result<_, _>>()?;

        let seconds = started.elapsed().as_secs_f64();
        let summary = RolloutSummary::of(&groups);
        let mean = |value: fn(&UpdateStats) -> f64| mean_and_std(&updates.iter().map(value).collect::<Vec<_>>()).0;
        let entropy: Vec<f64> = mini_batches.iter().flat_map(|batch| batch.entropy.iter().copied()).collect();
        let metrics = StepMetrics {
            step,
            phase: number,
            site: phase.site,
            reward: summary.reward,
            reward_std: summary.reward_std,
            frac_reward_zero_std: summary.frac_reward_zero_std,
            entropy: mean_and_std(&entropy).0,
            kl: mean(|update| update.kl),
            loss: mean(|update| update.loss),
            grad_norm: mean(|update| update.grad_norm),
            clip_ratio: mean(|update| update.clip_ratio),
            dual_clip_ratio: mean(|update| update.dual_clip_ratio),
            first_ratio: updates.first().map_or(1.0, |update| update.extreme_ratio),
            extreme_ratio: updates.iter().map(|update| update.extreme_ratio).fold(1.0, |extreme, ratio| {
                if (ratio - 1.0).abs() > (extreme - 1.0_f64).abs() { ratio } else { extreme }
            }),
            response_length: summary.response_length,
            truncated: summary.truncated,
            skipped_updates: updates.iter().filter(|update| update.skipped).count(),
            learning_rate: self.config.optimizer.learning_rate,
            tokens_per_second: summary.tokens as f64 / seconds,
            seconds_rollout,
            seconds_update: seconds - seconds_rollout,
        };
        self.run.metrics(&metrics)?;
        Ok(metrics)
    }

    fn rollout(&mut self, step: usize) -> Result<Vec<Group>, RlError> {
        let settings = &self.config.rollout;
        let mut rng = stream(self.config.seed, Purpose::Problems, step);
        let problems: Vec<Problem> = (0..settings.prompts).map(|_| self.task.training_problem(&mut rng)).collect();
        let sampling = Sampling {
            samples: settings.group_size,
            temperature: settings.temperature,
            max_new_tokens: settings.max_new_tokens,
            seed: stream_seed(self.config.seed, Purpose::Rollouts, step),
        };
        let LoadedModel { decoder, eos_token_ids, .. } = &self.model;
        let groups = sample_groups(decoder, &self.tokenizer, eos_token_ids, &self.task, &problems, &sampling)?;
        if step == 1 || step.is_multiple_of(COMPLETIONS_EVERY) {
            for completion in groups
                .iter()
                .zip(&problems)
                .filter_map(|(group, problem)| group.completion(problem, 0))
                .take(COMPLETIONS_KEPT)
            {
                self.run.completion(&KeptCompletion { step, held_out: false, completion: &completion })?;
            }
        }
        Ok(groups)
    }
}

/// The responses of one update, ready for it.
struct MiniBatch {
    samples: Vec<Sample>,
    /// The trained policy's entropy at each response token.
    entropy: Vec<f64>,
}

impl MiniBatch {
    fn new<A: AutodiffBackend>(
        model: &LoadedModel<A::InnerBackend>,
        groups: &[Group],
        loss: &LossSpec,
    ) -> Result<Self, RlError> {
        let mut scored = Vec::new();
        for group in groups {
            let rewards: Vec<f64> = group.responses.iter().map(|response| response.reward).collect();
            for (response, advantage) in group.responses.iter().zip(group_advantages(&rewards)) {
                let sequence = Sequence { prompt: group.prompt.clone(), response: response.tokens.clone() };
                scored.push((sequence, advantage));
            }
        }
        // Micro-batches of like lengths need little padding; the update is the same in any order.
        scored.sort_by_key(|(sequence, _)| sequence.len());
        let (sequences, advantages): (Vec<_>, Vec<_>) = scored.into_iter().unzip();
        let stats = response_stats::<A>(&model.decoder, &sequences, &loss.policy, loss.micro_batch)?;
        Ok(Self {
            entropy: stats.iter().flat_map(|stats| stats.entropy.iter().copied().map(f64::from)).collect(),
            samples: sequences
                .into_iter()
                .zip(advantages)
                .zip(stats)
                .map(|((sequence, advantage), stats)| Sample { sequence, advantage, old_log_probs: stats.log_probs })
                .collect(),
        })
    }
}

struct RolloutSummary {
    reward: f64,
    reward_std: f64,
    frac_reward_zero_std: f64,
    response_length: f64,
    truncated: f64,
    /// Prompt and response tokens.
    tokens: usize,
}

impl RolloutSummary {
    fn of(groups: &[Group]) -> Self {
        let per_group: Vec<(f64, f64)> = groups
            .iter()
            .map(|group| mean_and_std(&group.responses.iter().map(|response| response.reward).collect::<Vec<_>>()))
            .collect();
        let mean = |values: Vec<f64>| mean_and_std(&values).0;
        let responses = || groups.iter().flat_map(|group| &group.responses);
        let prompts: usize = groups.iter().map(|group| group.prompt.len() * group.responses.len()).sum();
        Self {
            reward: mean(per_group.iter().map(|(reward, _)| *reward).collect()),
            reward_std: mean(per_group.iter().map(|(_, std)| *std).collect()),
            frac_reward_zero_std: mean(per_group.iter().map(|(_, std)| f64::from(u8::from(*std == 0.0))).collect()),
            response_length: mean(responses().map(|response| response.tokens.len() as f64).collect()),
            truncated: mean(responses().map(|response| f64::from(u8::from(!response.finished))).collect()),
            tokens: prompts + responses().map(|response| response.tokens.len()).sum::<usize>(),
        }
    }
}
