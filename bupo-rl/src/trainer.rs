//! The training loop: rollouts, rewards, old log-probs, advantages, updates, phase by phase.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bupo_analysis::Boundary;
use bupo_core::{Norm, PolicySite, TokenStats};
use bupo_models::{Decoder, LoadedModel, ModelFiles, SaveOptions, Sequence, TextTokenizer, load_model};
use burn::tensor::backend::Backend;
use serde::Serialize;

use crate::RlError;
use crate::advantage::mean_and_std;
use crate::batch::{PolicySpec, response_stats};
use crate::config::TrainConfig;
use crate::evaluate::{Completion, Evaluation, Group, Sampler, Sampling};
use crate::optimizer::DecoderOptimizer;
use crate::probe::{Probe, find_boundary};
use crate::questions::{ArithmeticQuestions, FileQuestions, Questions};
use crate::random::{Purpose, stream_seed};
use crate::rollout::{Rollout, advantages, rollout};
use crate::run_folder::RunFolder;
use crate::schedule::{Phase, Schedule};
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
    /// The layer of the phases that leave it open was found.
    fn boundary(&mut self, boundary: &Boundary);
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
    /// The questions, in a line.
    pub questions: String,
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
    /// Responses sampled; with dynamic sampling, more than are learnt from.
    pub responses: usize,
    /// Groups learnt from.
    pub groups: usize,
    /// Responses so far that a scorer failed to grade, which are worth nothing.
    pub grading_failures: usize,
    /// Mean entropy in nats of the trained policy at the response tokens, before the step.
    pub entropy: f64,
    /// Mean of `logp_old - logp` over the step's updates.
    pub kl: f64,
    /// Mean of the estimated KL to the frozen reference, where the loss has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_kl: Option<f64>,
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
pub fn train<B: Backend>(
    config: &TrainConfig,
    files: &ModelFiles,
    folder: &Path,
    device: &B::Device,
    progress: &mut dyn Progress,
) -> Result<Outcome, RlError> {
    let mut trainer = Trainer::<B>::new(config, files, folder, device)?;
    progress.ready(&trainer.plan());
    progress.evaluating("before");
    let before = trainer.evaluate(0)?;
    progress.evaluated("before", &before);
    for step in 1..=trainer.schedule.steps() {
        let metrics = trainer.step(step, progress)?;
        progress.step(&metrics);
        trainer.probe(step)?;
    }
    let options = SaveOptions { dtype: config.save_dtype, ..SaveOptions::default() };
    let model = trainer.run.model(&trainer.model, options)?;
    progress.evaluating("after");
    let after = trainer.evaluate(trainer.schedule.steps())?;
    progress.evaluated("after", &after);
    let outcome = Outcome { before, after, folder: folder.to_path_buf(), model };
    trainer.run.evaluations(&outcome)?;
    Ok(outcome)
}

struct Trainer<'a, B: Backend> {
    config: &'a TrainConfig,
    schedule: Schedule,
    model: LoadedModel<B>,
    tokenizer: TextTokenizer,
    questions: Box<dyn Questions>,
    /// Draws of prompts so far.
    draws: usize,
    optimizer: DecoderOptimizer<B>,
    /// The model before training, where the loss measures the distance to it. What training has not touched is shared
    /// with the model, not copied: while a layer's policy is trained, all that is above it.
    reference: Option<Decoder<B>>,
    /// What the internal policies are watched on, from the first evaluation on.
    probe: Option<Probe>,
    run: RunFolder,
}

#[derive(Serialize)]
struct KeptCompletion<'a> {
    step: usize,
    held_out: bool,
    #[serde(flatten)]
    completion: &'a Completion,
}

/// `boundary.json`.
#[derive(Serialize)]
struct Settled<'a> {
    reason: String,
    certainty: String,
    #[serde(flatten)]
    boundary: &'a Boundary,
}

impl<'a, B: Backend> Trainer<'a, B> {
    fn new(config: &'a TrainConfig, files: &ModelFiles, folder: &Path, device: &B::Device) -> Result<Self, RlError> {
        let num_layers = bupo_models::checkpoint::load_config(files)?.num_hidden_layers;
        let schedule = config.schedule(num_layers)?;
        let tokenizer = TextTokenizer::load(files)?;
        let questions: Box<dyn Questions> = if config.data.train.is_empty() {
            Box::new(ArithmeticQuestions {
                task: config.task.task(),
                tokenizer: tokenizer.clone(),
                seed: config.seed,
                per_draw: config.rollout.prompts,
                held_out: config.evaluation.problems,
            })
        } else {
            Box::new(FileQuestions::new(config, files)?)
        };
        let model = load_model::<B>(files, device)?;
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
            questions,
            draws: 0,
            optimizer: DecoderOptimizer::new(config.optimizer),
            reference: config.objective.needs_reference().then(|| model.decoder.clone()),
            probe: None,
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
            questions: self.questions.describe(),
            folder: self.run.path(),
        }
    }

    /// The same problems and random numbers before and after.
    fn evaluate(&mut self, step: usize) -> Result<Evaluation, RlError> {
        let settings = &self.config.evaluation;
        let sampling = Sampling {
            site: PolicySite::Full,
            norm: Norm::None,
            samples: settings.samples,
            temperature: settings.temperature,
            max_new_tokens: self.config.rollout.max_new_tokens,
            batch: self.config.rollout.batch,
            seed: stream_seed(self.config.seed, Purpose::Evaluation, 0),
        };
        let sampler = Sampler::new(&self.model, &self.tokenizer);
        let questions = self.questions.held_out()?;
        let groups = sampler.sample(&questions, 0, &sampling, |answered| self.questions.grade(answered))?;
        self.keep_completions(&groups, step, true)?;
        if step == 0 && self.config.probe.every > 0 {
            self.probe = Some(Probe::new(&groups, self.config.probe.prompts));
            self.probe(step)?;
        }
        let outcomes: Vec<Vec<_>> =
            groups.iter().map(|group| group.responses.iter().map(|response| response.outcome()).collect()).collect();
        Ok(Evaluation::of(&outcomes))
    }

    /// Keeps the first responses to some questions.
    fn keep_completions(&mut self, groups: &[Group], step: usize, held_out: bool) -> Result<(), RlError> {
        for completion in groups.iter().filter_map(|group| group.completion(0)).take(COMPLETIONS_KEPT) {
            self.run.completion(&KeptCompletion { step, held_out, completion: &completion })?;
        }
        Ok(())
    }

    /// Measures the internal policies where it is time to.
    fn probe(&mut self, step: usize) -> Result<(), RlError> {
        let Some(probe) = self.probe.as_ref().filter(|_| step.is_multiple_of(self.config.probe.every)) else {
            return Ok(());
        };
        let line = probe.measure(&self.model.decoder, step)?;
        self.run.probe(&line)
    }

    /// Finds the layer of the phases that leave it open, by the first step's responses: the boundary layer, or the full policy
    /// where no layer explores.
    fn settle(&mut self, groups: &[Group], progress: &mut dyn Progress) -> Result<(), RlError> {
        let Some(boundary) = find_boundary(&self.model.decoder, groups)? else { return Ok(()) };
        self.schedule.settle(boundary.layer.map_or(PolicySite::Full, PolicySite::Layer));
        let (reason, certainty) = (boundary.reason(), boundary.certainty());
        self.run.boundary(&Settled { reason, certainty, boundary: &boundary })?;
        progress.boundary(&boundary);
        Ok(())
    }

    fn step(&mut self, step: usize, progress: &mut dyn Progress) -> Result<StepMetrics, RlError> {
        let started = Instant::now();
        let sampler = Sampler::new(&self.model, &self.tokenizer);
        let settings = &self.config.rollout;
        let Rollout { groups, summary } =
            rollout(&sampler, self.questions.as_ref(), settings, self.config.seed, &mut self.draws)?;
        if step == 1 || step.is_multiple_of(COMPLETIONS_EVERY) {
            self.keep_completions(&groups, step, false)?;
        }
        let seconds_rollout = started.elapsed().as_secs_f64();

        if self.schedule.is_open() {
            self.settle(&groups, progress)?;
        }
        let (number, phase) = self.schedule.at(step);
        if step == 1 || number != self.schedule.at(step - 1).0 {
            progress.phase(number, &phase);
        }
        let settings = &self.config.rollout;
        let loss = LossSpec {
            policy: PolicySpec { site: phase.site, norm: phase.norm, temperature: settings.temperature },
            objective: self.config.objective,
            norm_length: Some(settings.max_new_tokens),
            max_tokens_per_batch: self.config.update.max_tokens_per_batch,
            recompute: self.config.update.recompute,
        };
        // Old log-probs of all mini-batches come before the first update, at the site this step trains.
        let advantages = advantages(&groups, self.config.objective.advantage, settings);
        let per_update = self.config.update.mini_batch_prompts;
        let mini_batches: Vec<MiniBatch> = groups
            .chunks(per_update)
            .zip(advantages.chunks(per_update))
            .enumerate()
            // The first update finds the policy as it was before the step: its own log-probs are the old ones.
            .map(|(index, (groups, advantages))| self.mini_batch(groups, advantages, &loss, index > 0))
            .collect::<Result<_, _>>()?;
        let updates: Vec<UpdateStats> = mini_batches
            .iter()
            .map(|batch| update(&mut self.model.decoder, &mut self.optimizer, &batch.samples, &loss))
            .collect::<Result<_, _>>()?;

        let seconds = started.elapsed().as_secs_f64();
        let mean = |value: fn(&UpdateStats) -> f64| mean_and_std(&updates.iter().map(value).collect::<Vec<_>>()).0;
        let first = updates.first().map_or((0.0, 0), |update| (update.entropy, update.tokens));
        let entropy_sum = first.0 * first.1 as f64 + mini_batches.iter().map(|batch| batch.entropy_sum).sum::<f64>();
        let tokens: usize = updates.iter().map(|update| update.tokens).sum();
        let metrics = StepMetrics {
            step,
            phase: number,
            site: phase.site,
            reward: summary.reward,
            reward_std: summary.reward_std,
            frac_reward_zero_std: summary.frac_reward_zero_std,
            responses: summary.responses,
            groups: groups.len(),
            grading_failures: self.questions.failures().count,
            entropy: entropy_sum / tokens.max(1) as f64,
            kl: mean(|update| update.kl),
            ref_kl: self.reference.is_some().then(|| mean(|update| update.ref_kl)),
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

    fn mini_batch(
        &self,
        groups: &[Group],
        advantages: &[Vec<f64>],
        loss: &LossSpec,
        needs_old: bool,
    ) -> Result<MiniBatch, RlError> {
        let mut scored: Vec<(Sequence, f64)> = groups
            .iter()
            .zip(advantages)
            .flat_map(|(group, advantages)| {
                let sequence =
                    |tokens: &Vec<u32>| Sequence { prompt: group.question.tokens.clone(), response: tokens.clone() };
                group.responses.iter().map(move |response| sequence(&response.tokens)).zip(advantages.iter().copied())
            })
            .collect();
        // Like lengths beside one another need little padding; the update is the same in any order.
        scored.sort_by_key(|(sequence, _)| sequence.len());
        let (sequences, advantages): (Vec<_>, Vec<_>) = scored.into_iter().unzip();
        let stats_of = |decoder| response_stats(decoder, &sequences, &loss.policy, loss.max_tokens_per_batch);
        let old = if needs_old { Some(stats_of(&self.model.decoder)?) } else { None };
        let reference = self.reference.as_ref().map(stats_of).transpose()?;
        let entropies = old.iter().flatten().flat_map(|stats| stats.entropy.iter().copied().map(f64::from));
        let entropy_sum = entropies.sum();
        let log_probs =
            |stats: Option<Vec<TokenStats>>| stats.map(|stats| stats.into_iter().map(|stats| stats.log_probs));
        let (mut old, mut reference) = (log_probs(old), log_probs(reference));
        let samples = sequences
            .into_iter()
            .zip(advantages)
            .map(|(sequence, advantage)| Sample {
                sequence,
                advantage,
                old_log_probs: old.as_mut().and_then(Iterator::next),
                ref_log_probs: reference.as_mut().and_then(Iterator::next),
            })
            .collect();
        Ok(MiniBatch { samples, entropy_sum })
    }
}

/// The responses of one update, ready for it.
struct MiniBatch {
    samples: Vec<Sample>,
    /// The trained policy's entropies at the response tokens, added up; 0 for the first update, which finds them itself.
    entropy_sum: f64,
}
